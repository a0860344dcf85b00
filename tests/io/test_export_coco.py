"""COCO, read back by pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.exports import BAR, CELLS, NUM_FRAMES, SIZE, draw_bar, draw_cells, labelled_track, labelled_video

from napari_virst.io.exporting import export_labels

coco_api = pytest.importorskip("pycocotools.coco")
coco_mask = pytest.importorskip("pycocotools.mask")


@pytest.fixture
def exported(tmp_path):
    videos = [labelled_video(), labelled_video(labelled_track(draw_bar(), BAR), name="other clip")]
    export_labels(videos, tmp_path / "out", "coco")
    return coco_api.COCO(str(tmp_path / "out" / "annotations.json"))


def annotations_of(coco, video_id, frame, track_id):
    images = [i["id"] for i in coco.dataset["images"] if (i["video_id"], i["frame_index"]) == (video_id, frame)]
    return [a for a in coco.loadAnns(coco.getAnnIds(images)) if a["track_id"] == track_id]


@pytest.mark.parametrize("frame", range(NUM_FRAMES), ids=str)
def test_masks_come_back_to_the_pixel_overlaps_included(exported, frame):
    truth = [draw_cells()[frame] == label for label in (1, 2, 3)] + [draw_bar()[frame] == 1]
    for track_id, mask in enumerate(truth, 1):
        found = annotations_of(exported, 1, frame, track_id)
        assert len(found) == bool(mask.any())
        if found:
            np.testing.assert_array_equal(exported.annToMask(found[0]).astype(bool), mask)


def test_area_and_box_are_what_pycocotools_finds(exported):
    for one in exported.dataset["annotations"]:
        assert one["area"] == coco_mask.area(one["segmentation"])
        assert one["bbox"] == coco_mask.toBbox(one["segmentation"]).tolist()
        assert one["iscrowd"] == 0


def test_queries_are_categories_once_for_all_videos(exported):
    assert [c["name"] for c in exported.dataset["categories"]] == [CELLS, BAR]
    bar = exported.getCatIds(catNms=[BAR])
    assert {a["track_id"] for a in exported.loadAnns(exported.getAnnIds(catIds=bar))} == {4, 5}


def test_identifiers_are_unique_over_videos(exported):
    assert [v["name"] for v in exported.dataset["videos"]] == ["clip", "other-clip"]
    for kind in ("images", "annotations"):
        identifiers = [one["id"] for one in exported.dataset[kind]]
        assert len(set(identifiers)) == len(identifiers)
    assert len({i["file_name"] for i in exported.dataset["images"]}) == 2 * NUM_FRAMES


def test_frame_without_objects_is_an_image_without_annotations(tmp_path):
    labels = draw_cells()
    labels[3] = 0
    export_labels([labelled_video(labelled_track(labels))], tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    empty = next(i for i in content["images"] if i["frame_index"] == 3)
    assert (empty["height"], empty["width"]) == SIZE
    assert empty["id"] not in {a["image_id"] for a in content["annotations"]}
