"""What was typed is read as it was meant, or refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_virst.cli.segment_request import (
    CorrectionArgument,
    SegmentRequest,
    check_excluded,
    plan_queries,
    read_anchors,
)
from napari_virst.errors import InputError, MaskError, QueryError


@given(st.integers(0, 10**6), st.text("abc=./ ü", min_size=1).map(str.strip).filter(bool))
def test_a_correction_is_split_at_the_first_equals_sign(frame, mask):
    assert CorrectionArgument.parse(f" {frame} = {mask} ") == CorrectionArgument(frame, mask)


@pytest.mark.parametrize("text", ["first.png", "=first.png", "-1=first.png", "3="], ids=str)
def test_a_correction_of_another_form_is_refused(text):
    with pytest.raises(MaskError, match="FRAME=MASK"):
        CorrectionArgument.parse(text)


def test_a_mask_alone_is_followed_under_the_name_object():
    mask = [CorrectionArgument(0, "first.png"), CorrectionArgument(3, "absent")]
    assert [(query.text, query.name) for query in plan_queries((), mask)] == [("", "object")]
    with pytest.raises(QueryError):
        plan_queries((), [])
    with pytest.raises(QueryError):
        plan_queries(("one", "two"), mask)


def test_frames_without_the_object_need_words_or_a_mask_beside_them():
    absent = [CorrectionArgument(0, "absent")]
    assert [query.text for query in plan_queries(("the cell",), absent)] == ["the cell"]
    with pytest.raises(QueryError, match="only frames without the object; add a query"):
        plan_queries((), absent)


def test_absent_frames_are_empty_anchors_in_order_of_time():
    anchors = read_anchors([CorrectionArgument(n, "absent") for n in (4, 1)], (6, 3, 5), None)
    assert [anchor.frame for anchor in anchors] == [1, 4]
    assert all(anchor.mask.shape == (3, 5) and anchor.is_absent for anchor in anchors)


@pytest.mark.parametrize(
    ("label", "problem"), [(None, "it is empty"), (3, "no pixel has the value 3 of --label")], ids=["empty", "label"]
)
def test_a_mask_that_shows_nothing_is_refused_with_the_reason(tmp_path, label, problem):
    path = tmp_path / "mask.npy"
    np.save(path, np.full((3, 5), 0 if label is None else 255, np.uint8))
    with pytest.raises(MaskError, match=problem):
        read_anchors([CorrectionArgument(0, str(path))], (6, 3, 5), label)


@pytest.mark.parametrize(("label", "is_said"), [(None, True), (2, False)], ids=["all-taken", "one-chosen"])
def test_several_labels_taken_as_one_object_are_mentioned(tmp_path, capsys, label, is_said):
    path = tmp_path / "labels.png"
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) % 3).save(path)
    (anchor,) = read_anchors([CorrectionArgument(0, str(path))], (1, 2, 3), label)
    assert int(anchor.mask.sum()) == (4 if label is None else 2)
    assert ("holds the values 1, 2: all" in capsys.readouterr().err) == is_said


def test_absent_may_be_capitalised():
    assert CorrectionArgument.parse("3=Absent").mask == "absent"


@pytest.mark.parametrize("frames", [(6,), (1, 1)], ids=["beyond-the-end", "twice"])
def test_corrections_that_name_no_frame_of_their_own_are_refused(frames):
    with pytest.raises(MaskError, match="each once"):
        read_anchors([CorrectionArgument(n, "absent") for n in frames], (6, 3, 5), None)


def test_excluded_anchors_lie_in_the_video():
    assert check_excluded((0, 5), 6) == {0, 5}
    with pytest.raises(InputError, match="0 to 5"):
        check_excluded((6,), 6)


@pytest.mark.parametrize(("z", "plane"), [(None, None), ("3", 3), ("max", "max")], ids=["none", "number", "word"])
def test_z_is_a_number_or_a_word(z, plane):
    assert SegmentRequest("v.tif", ("the cell",), Path("out"), z=z).plane == plane


def test_a_word_stays_a_query_beside_a_file_of_that_name_and_a_long_one_is_no_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mouse").touch()
    (tmp_path / "mouse.mp4").touch()
    long = "the mouse that turns. " * 40 + "it"
    assert [query.text for query in plan_queries(("mouse", long), [])] == ["mouse", long]
    with pytest.raises(QueryError, match="is a file"):
        plan_queries(("mouse.mp4",), [])


def test_what_else_was_typed_holds_zeros_and_nothing_that_was_left_out(tmp_path):
    assert SegmentRequest("a.tif", ("cell",), tmp_path).typed == {}
    typed = SegmentRequest("a.tif", ("cell",), tmp_path, channel=0, z="0", learn=True).typed
    assert typed == {"channel": 0, "z": "0", "learn": True}
