"""YOLO labels, rasterised again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fixtures.exports import BAR, CELLS, NUM_FRAMES, SIZE, draw_bar, draw_cells, labelled_track, labelled_video

from napari_virst.io.exporting import export_labels


def read_rows(path):
    """Class and (H, W) bool mask of every row, as trainers read it."""
    rows = []
    for line in path.read_text().splitlines():
        number, *coordinates = line.split()
        points = np.array(coordinates, float).reshape(-1, 2) * SIZE[::-1]
        canvas = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
        rows.append((int(number), canvas.astype(bool)))
    return rows


def test_masks_come_back_with_their_classes(tmp_path):
    export_labels([labelled_video()], tmp_path / "out", "yolo")
    for frame in range(NUM_FRAMES):
        rows = read_rows(tmp_path / "out" / "labels" / "train" / f"clip_{frame:05d}.txt")
        truth = [(0, draw_cells()[frame] == label) for label in (1, 2, 3)] + [(1, draw_bar()[frame] > 0)]
        truth = [(number, mask) for number, mask in truth if mask.any()]
        for (number, mask), (expected, true_mask) in zip(rows, truth, strict=True):
            assert number == expected
            assert np.count_nonzero(mask & true_mask) / np.count_nonzero(mask | true_mask) > 0.97


def test_rows_are_polygons_within_the_image(tmp_path):
    labels = np.zeros((NUM_FRAMES, *SIZE), np.uint16)
    labels[0, 0, 0] = labels[1, -1, -1] = labels[2, :2, :1] = 1
    export_labels([labelled_video(labelled_track(labels))], tmp_path / "out", "yolo")
    for frame in range(3):
        _, *numbers = (tmp_path / "out" / "labels" / "train" / f"clip_{frame:05d}.txt").read_text().split()
        assert len(numbers) >= 6, "a shorter row is read as a box"
        assert all(0 <= float(number) <= 1 for number in numbers)


def test_frame_without_objects_has_an_empty_file(tmp_path):
    export_labels([labelled_video(labelled_track(draw_cells() * 0))], tmp_path / "out", "yolo")
    assert (tmp_path / "out" / "labels" / "train" / "clip_00000.txt").read_text() == ""


def test_names_of_classes_are_read_by_yaml(tmp_path):
    yaml = pytest.importorskip("yaml")
    odd = 'a: "b" # ü\\ 🦒'
    tracks = labelled_track(draw_cells()), labelled_track(draw_bar(), odd)
    export_labels([labelled_video(*tracks), labelled_video(name="b")], tmp_path / "out", "yolo", split="val")
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert content["names"] == {0: CELLS, 1: odd, 2: BAR}
    assert content["train"] == content["val"] == "images/val"


def test_what_bridges_join_is_counted(tmp_path):
    report = export_labels([labelled_video()], tmp_path / "out", "yolo")
    # 6 + 5 + 2 cells, 5 of them with a hole; 6 bars in two pieces
    assert any("of 19 masks, 6 in several pieces and 5 with holes" in note for note in report.notes)
