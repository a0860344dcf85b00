from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_virst.errors import MaskError


def test_frames_of_a_run_wait_longer_to_be_drawn_where_all_frames_are_drawn_at_once(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ask()
    desk = bench.presenter._desk
    bench.viewer.dims.ndisplay = 3
    asked: list[str] = []
    monkeypatch.setattr(desk._refreshing, "ask", lambda: asked.append("as fast as the eye can tell"))
    monkeypatch.setattr(desk._refreshing_all_frames, "ask", lambda: asked.append("seldom"))
    desk.session.run(desk.session.tracks[0], 0)
    assert set(asked) == {"seldom"}


def test_what_is_put_into_a_layer_in_place_of_its_masks_counts_as_painted(bench: Any) -> None:
    layer = bench.ask()
    track = bench.presenter._desk.session.tracks[0]
    labels = np.asarray(layer.data).astype(np.int32)
    labels[3, :4, :4] = 1
    layer.data = labels
    assert layer.data is track.masks
    assert track.masks.owned_frames == (3,)
    np.testing.assert_array_equal(np.asarray(track.masks), labels)
    assert "counts as painted by you: 1 frame." in bench.message


def test_labels_of_another_shape_do_not_stay_in_the_layer_of_a_query(bench: Any) -> None:
    layer = bench.ask()
    track = bench.presenter._desk.session.tracks[0]
    before = np.array(track.masks)
    layer.data = np.zeros((3, 5, 5), np.uint8)
    assert layer.data is track.masks
    np.testing.assert_array_equal(np.asarray(track.masks), before)


def test_another_data_type_for_the_layer_is_refused_in_a_sentence(bench: Any) -> None:
    layer = bench.ask()
    with pytest.raises(MaskError, match="must stay uint16; got int32"):
        layer.data.astype("int32")
