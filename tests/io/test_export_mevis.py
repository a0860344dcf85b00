"""MeViS, read back by the reader of benchmarks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.exports import BAR, CELLS, NUM_FRAMES, SIZE, draw_bar, draw_cells, labelled_track, labelled_video

from napari_virst.io.datasets import open_dataset
from napari_virst.io.exporting import export_labels

pytest.importorskip("pycocotools")


def test_expressions_come_back_with_their_masks_overlaps_included(tmp_path):
    nothing = labelled_track(np.zeros_like(draw_bar()), "the giraffe")
    video = labelled_video(*labelled_video().tracks, nothing)
    export_labels([video, labelled_video(labelled_track(draw_bar(), BAR), name="b")], tmp_path / "out", "mevis")
    dataset = open_dataset(tmp_path / "out", "mevis", "train")
    assert [(e.video, e.text) for e in dataset.expressions] == [
        ("clip", CELLS),
        ("clip", BAR),
        ("clip", "the giraffe"),
        ("b", BAR),
    ]
    truths = draw_cells() > 0, draw_bar() > 0, draw_bar() > 9, draw_bar() > 0
    for expression, truth in zip(dataset.expressions, truths, strict=True):
        for frame in range(NUM_FRAMES):
            np.testing.assert_array_equal(dataset.truth(expression, frame, SIZE), truth[frame])


def test_object_out_of_sight_is_null(tmp_path):
    export_labels([labelled_video()], tmp_path / "out", "mevis")
    masks = json.loads((tmp_path / "out" / "train" / "mask_dict.json").read_text())
    assert [mask is None for mask in masks["1"]] == [False, False, True, False, False, False]
