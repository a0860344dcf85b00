"""Cell Tracking Challenge: files against the rules of the format."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from fixtures.exports import NUM_FRAMES, draw_cells, labelled_track, labelled_video
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import InputError
from napari_virst.io import export_ctc
from napari_virst.io.export_ctc import CtcLines
from napari_virst.io.exporting import export_labels


def read_lines(text):
    return [tuple(map(int, line.split())) for line in text.splitlines()]


def check_rules(lines, labels_by_frame):
    """What the validation of the challenge checks."""
    by_label = {label: (begin, end, parent) for label, begin, end, parent in lines}
    assert len(by_label) == len(lines), "labels are unique"
    for label, (begin, end, parent) in by_label.items():
        assert 0 < label < 1 << 16
        assert begin <= end
        assert not parent or by_label[parent][1] < begin, "a parent ends before its child begins"
        assert all(label in labels_by_frame.get(t, ()) for t in range(begin, end + 1)), "shown on every frame"
    for t, labels in labels_by_frame.items():
        for label in labels:
            assert by_label[label][0] <= t <= by_label[label][1], "nothing is shown that is not listed"


@pytest.fixture
def cells():
    return labelled_video(labelled_track(draw_cells(), parents={1: 0, 2: 0, 3: 1}, reviewed=[0, 1, 4, 5]))


def read_masks(folder):
    return {int(path.stem[4:]): tifffile.imread(path) for path in folder.glob("mask*.tif")}


@pytest.mark.parametrize("only_reviewed", [False, True], ids=["all-frames", "some-frames"])
def test_files_keep_the_rules(tmp_path, cells, only_reviewed):
    export_labels([cells], tmp_path / "out", "ctc", only_reviewed=only_reviewed)
    masks = read_masks(tmp_path / "out" / "01_RES")
    lines = read_lines((tmp_path / "out" / "01_RES" / "res_track.txt").read_text())
    check_rules(lines, {t: set(np.unique(mask)) - {0} for t, mask in masks.items()})
    assert sorted(masks) == ([0, 1, 4, 5] if only_reviewed else list(range(NUM_FRAMES)))
    for t, mask in masks.items():
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask > 0, draw_cells()[t] > 0)


def test_gap_and_division_are_in_the_tracks(tmp_path, cells):
    report = export_labels([cells], tmp_path / "out", "ctc")
    lines = read_lines((tmp_path / "out" / "01_RES" / "res_track.txt").read_text())
    # 2 is out of sight on frame 2; 1 divides before frame 4 and goes on as a child of its own
    assert lines == [(1, 0, 3, 0), (2, 0, 1, 0), (3, 3, 5, 2), (4, 4, 5, 1), (5, 4, 5, 1)]
    assert any("1 gaps" in note for note in report.notes)
    assert any("go on beside their children" in note for note in report.notes)


def test_parent_that_ends_is_the_parent_of_its_children(tmp_path):
    labels = draw_cells()
    labels[4:][labels[4:] == 1] = 4
    video = labelled_video(labelled_track(labels, parents={1: 0, 2: 0, 3: 1, 4: 1}))
    export_labels([video], tmp_path / "out", "ctc")
    lines = read_lines((tmp_path / "out" / "01_RES" / "res_track.txt").read_text())
    assert [line[3] for line in lines if line[1] == 4] == [1, 1]
    assert (1, 0, 3, 0) in lines


def test_file_names_have_digits_for_all_frames(tmp_path):
    one = labelled_track(np.ones((1200, 2, 2), np.uint16), reviewed=[7])
    video = type(labelled_video())("long", tmp_path, (1200, 2, 2), (one,))
    export_labels([video], tmp_path / "out", "ctc", only_reviewed=True)
    assert (tmp_path / "out" / "01_RES" / "mask0007.tif").is_file()


def test_sequences_are_numbered_and_named(tmp_path):
    report = export_labels([labelled_video(), labelled_video(name="b")], tmp_path / "out", "ctc")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"01_RES", "02_RES", "export.json"}
    assert "Sequences: 01 is clip, 02 is b." in report.notes


def test_more_tracks_than_labels_are_refused(monkeypatch):
    monkeypatch.setattr(export_ctc, "_MAX_LABEL", 2)
    with pytest.raises(InputError, match="2 tracks at most"):
        CtcLines({1: 0, 2: 0, 3: 0}).labels_for(0, [1, 2, 3])


@st.composite
def courses(draw):
    """Which objects are shown on which exported frame, and who came from whom; any older number may be a parent."""
    num_objects = draw(st.integers(1, 5))
    parents = {n: draw(st.integers(0, n - 1)) for n in range(1, num_objects + 1)}
    frames = sorted(draw(st.sets(st.integers(0, 12), min_size=1)))
    shown = st.sets(st.integers(1, num_objects)).map(sorted)
    return parents, {frame: draw(shown) for frame in frames}


@given(courses())
def test_rules_hold_for_every_course(course):
    parents, shown = course
    lines = CtcLines(parents)
    labels = {frame: lines.labels_for(frame, numbers) for frame, numbers in shown.items()}
    check_rules(read_lines(lines.text), {frame: set(given.values()) for frame, given in labels.items()})
    owners: dict[int, int] = {}
    for given_labels in labels.values():
        for number, label in given_labels.items():
            assert owners.setdefault(label, number) == number, "a label never changes hands"
