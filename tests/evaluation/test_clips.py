from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.benchmarks import NUM_FRAMES, draw_video, write_clip
from fixtures.segmenter import DiscSegmenter

from napari_virst.errors import InputError
from napari_virst.evaluation.clips import AnnotatedClip, find_clips, score_clip
from napari_virst.evaluation.metrics import region_similarity


@pytest.fixture
def clip(tmp_path):
    return AnnotatedClip(write_clip(tmp_path / "disc"))


@pytest.fixture
def segmenter():
    return DiscSegmenter(draw_video())


def test_first_mask_is_shown_and_the_frames_after_it_are_scored(clip, segmenter):
    score = score_clip(segmenter, clip, with_language=False)
    (job,) = segmenter.jobs
    np.testing.assert_array_equal(job.anchors[0].mask, draw_video().masks[0])
    assert score.objects[4].num_frames == NUM_FRAMES - 1
    assert score.mean_j == 1


def test_copying_is_scored_on_the_same_frames(clip, segmenter):
    masks = draw_video().masks
    expected = np.mean([region_similarity(masks[0], mask) for mask in masks[1:]])
    assert score_clip(segmenter, clip).mean_j_copy == pytest.approx(expected, abs=1e-9)
    assert expected < 0.5


def test_language_is_asked_without_a_mask_over_the_whole_clip(clip, segmenter):
    score = score_clip(segmenter, clip)
    asked = [job for job in segmenter.jobs if job.query.text]
    assert [job.query.text for job in asked] == ["the disc", "the moving thing"]
    assert all(not job.anchors and len(job.span) == NUM_FRAMES for job in asked)
    assert score.language.num_frames == 2 * NUM_FRAMES
    assert score.language.j_and_f == 1


def test_flow_follows_what_copying_loses(clip, segmenter):
    score = score_clip(segmenter, clip, with_language=False)
    assert score.mean_j_flow > score.mean_j_copy + 0.1


def test_object_that_comes_later_is_followed_from_there(tmp_path, segmenter):
    folder = write_clip(tmp_path / "disc")
    meta = json.loads((folder / "meta.json").read_text())
    meta["objects"][0]["mask_frames"] = [[2, NUM_FRAMES - 1]]
    (folder / "meta.json").write_text(json.dumps(meta))
    score = score_clip(segmenter, AnnotatedClip(folder), with_language=False)
    assert segmenter.jobs[0].anchors[0].frame == 2
    assert score.objects[4].num_frames == NUM_FRAMES - 3


def test_frames_without_annotation_are_left_out(tmp_path, segmenter):
    folder = write_clip(tmp_path / "disc")
    (folder / "masks" / "f3.png").unlink()
    score = score_clip(segmenter, AnnotatedClip(folder))
    assert score.objects[4].num_frames == NUM_FRAMES - 2
    assert score.language.num_frames == 2 * (NUM_FRAMES - 1)


def test_clip_without_masks_has_nothing_to_score(tmp_path):
    folder = write_clip(tmp_path / "disc")
    for path in (folder / "masks").iterdir():
        path.unlink()
    assert AnnotatedClip(folder).objects == ()


def test_folder_of_clips_and_one_clip_are_both_found(tmp_path):
    write_clip(tmp_path / "b")
    write_clip(tmp_path / "a")
    assert [clip.name for clip in find_clips(tmp_path)] == ["a", "b"]
    assert [clip.name for clip in find_clips(tmp_path / "b")] == ["b"]
    with pytest.raises(InputError, match="choose another folder"):
        find_clips(tmp_path / "a" / "frames")
