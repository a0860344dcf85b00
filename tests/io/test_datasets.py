from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.benchmarks import (
    SIZE,
    draw_video,
    halves,
    write_like_youtube_vos,
    write_mevis,
    write_revos,
)

from napari_virst.engine.protocol import Frames
from napari_virst.errors import InputError, MaskError, VideoError
from napari_virst.io.datasets import open_dataset

pytest.importorskip("pycocotools")


def test_truth_is_the_union_of_what_is_referred_to(tmp_path):
    dataset = open_dataset(write_mevis(tmp_path), "mevis", "valid_u")
    video = draw_video()
    both, upper, nothing, _ = dataset.expressions
    np.testing.assert_array_equal(dataset.truth(both, 3, SIZE), video.masks[3])
    np.testing.assert_array_equal(dataset.truth(upper, 3, SIZE), halves(video)[0][3])
    assert not dataset.truth(nothing, 3, SIZE).any()
    assert both.text == "both halves of the disc"
    assert [(e.video, e.expression_id) for e in dataset.expressions] == [
        ("v1", "0"),
        ("v1", "1"),
        ("v1", "2"),
        ("v2", "0"),
    ]


def test_split_without_published_masks_has_no_truth(tmp_path):
    dataset = open_dataset(write_mevis(tmp_path, "valid"), "mevis")
    assert dataset.truth(dataset.expressions[0], 0, SIZE) is None


def test_frames_are_what_a_segmenter_reads(tmp_path):
    dataset = open_dataset(write_mevis(tmp_path), "mevis", "valid_u")
    frames = dataset.open_frames(dataset.expressions[0])
    assert isinstance(frames, Frames)
    assert frames.shape == draw_video().shape
    assert np.abs(frames[2].astype(int) - draw_video().pixels[2]).mean() < 4
    assert frames.fingerprint != dataset.open_frames(dataset.expressions[3]).fingerprint


def test_missing_frame_is_named(tmp_path):
    dataset = open_dataset(write_mevis(tmp_path), "mevis", "valid_u")
    (tmp_path / "valid_u" / "JPEGImages" / "v1" / "00000.jpg").unlink()
    with pytest.raises(VideoError, match="00000"):
        dataset.open_frames(dataset.expressions[0])


def test_missing_annotation_is_named(tmp_path):
    dataset = open_dataset(write_mevis(tmp_path), "mevis", "valid_u")
    (tmp_path / "valid_u" / "mask_dict.json").write_text("{}")
    with pytest.raises(MaskError, match="annotation 7"):
        dataset.truth(dataset.expressions[0], 0, SIZE)


def test_palette_values_are_objects_and_other_frames_have_no_truth(tmp_path):
    dataset = open_dataset(write_like_youtube_vos(tmp_path, "train", 8, every=2), "ref-youtube-vos", "train")
    upper, lower = halves(draw_video())
    np.testing.assert_array_equal(dataset.truth(dataset.expressions[0], 2, SIZE), upper[2])
    np.testing.assert_array_equal(dataset.truth(dataset.expressions[7], 2, SIZE), lower[2])
    assert dataset.truth(dataset.expressions[0], 1, SIZE) is None


def test_videos_of_the_test_split_are_taken_out_of_valid(tmp_path):
    folder = write_like_youtube_vos(tmp_path, "valid", 1)
    assert len(open_dataset(folder, "ref-youtube-vos").expressions) == 1
    listing = folder / "meta_expressions" / "valid" / "meta_expressions.json"
    (folder / "meta_expressions" / "test").mkdir()
    (folder / "meta_expressions" / "test" / "meta_expressions.json").write_text(listing.read_text())
    assert open_dataset(folder, "ref-youtube-vos").expressions == ()


def test_davis_has_four_sets_of_expressions(tmp_path):
    dataset = open_dataset(write_like_youtube_vos(tmp_path, "valid", 8), "ref-davis")
    assert [e.group for e in dataset.expressions] == ["set 1", "set 2", "set 3", "set 4"] * 2


def test_revos_knows_its_types_and_null_is_an_empty_mask(tmp_path):
    dataset = open_dataset(write_revos(tmp_path), "revos")
    assert [e.group for e in dataset.expressions] == ["referring", "reasoning", "hallucination"]
    assert dataset.truth(dataset.expressions[0], 1, SIZE).any()
    assert not dataset.truth(dataset.expressions[0], 2, SIZE).any()


@pytest.mark.parametrize("name", ["../out", "/etc", "a/../../b", "a\\b", ""], ids=str)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    entry = {"expressions": {"0": {"exp": "x"}}, "frames": ["00000"]}
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "meta_expressions.json").write_text(json.dumps({"videos": {name: entry}}))
    with pytest.raises(InputError, match="plain name"):
        open_dataset(tmp_path, "mevis")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"videos": {"v": {"frames": []}}}', '{"videos": {"v": 3}}'],
    ids=["torn", "a-list", "no-expressions", "a-number"],
)  # fmt: skip
def test_malformed_list_of_expressions_is_explained(tmp_path, content):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "meta_expressions.json").write_text(content)
    with pytest.raises(InputError, match=r"meta_expressions\.json"):
        open_dataset(tmp_path, "mevis")


def test_another_folder_is_explained(tmp_path):
    with pytest.raises(InputError, match="check the folder"):
        open_dataset(tmp_path, "revos")
