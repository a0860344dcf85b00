from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.benchmarks import NUM_FRAMES, draw_video, write_like_youtube_vos, write_mevis
from fixtures.frames import draw_moving_disc
from fixtures.learners import build_tiny, tiny_recipe
from PIL import Image

from napari_virst.engine.runner import InlineRunner
from napari_virst.errors import InputError, ProjectError
from napari_virst.io.project import ProjectFolder
from napari_virst.io.video import open_video
from napari_virst.training.annotated import find_annotated
from napari_virst.training.lessons import MixedLessons, SceneLessons
from napari_virst.training.loop import Trainer
from napari_virst.training.scene_lessons import ATOMS, TOPICS
from napari_virst.training.video_lessons import VideoLessons

OWNED = (1, 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory):
    """A session on a movie of a disc: a person painted two frames of one track, and declared one frame of another."""
    from fixtures.segmenter import DiscSegmenter

    from napari_virst.session.session import AnnotationSession

    root = tmp_path_factory.mktemp("annotated")
    disc = draw_moving_disc(8, (40, 64), 8)
    frames = root / "frames"
    frames.mkdir()
    for number, pixels in enumerate(disc.pixels):
        Image.fromarray(pixels).save(frames / f"{number:03d}.png")
    with open_video(frames) as video, video.reader() as reader:
        segmenter = DiscSegmenter(disc)
        session = AnnotationSession(
            reader, lambda: segmenter, InlineRunner(), root / "project", video_source=str(frames), video_name="disc"
        )
        track = session.ask("the disc")
        for frame in OWNED:
            session.give_mask(track, frame, disc.masks[frame])
        session.ask("the giraffe")
        session.save()
        session.close()
    return root / "project"


@pytest.mark.parametrize(
    ("write", "kind", "split", "num_queries"),
    [
        (lambda folder: write_mevis(folder), "mevis", "valid_u", 4),
        (lambda folder: write_like_youtube_vos(folder, "train", 8, every=2), "ref-youtube-vos", "train", 8),
        (lambda folder: write_like_youtube_vos(folder, "train", 8), "ref-davis", "train", 8),
    ],
    ids=["mevis", "ref-youtube-vos", "ref-davis"],
)
def test_benchmarks_give_lessons_in_language_and_in_following(tmp_path, write, kind, split, num_queries):
    pytest.importorskip("pycocotools")
    videos = find_annotated(write(tmp_path), kind, split)
    assert sum(len(video.queries) for video in videos) == num_queries
    lessons = VideoLessons(videos)
    asked = lessons.asked(3, 2, 2, 32, generator(), ())
    texts = {query.text for video in videos for query in video.queries}
    assert asked.frames.shape == (3, 2, 3, 32, 32)
    assert asked.masks.shape[1:] == (2, 32, 32)
    assert set(asked.queries) <= texts
    assert asked.facts.shape == (3, 1, len(TOPICS))
    assert asked.atoms.shape == (len(asked.queries), len(ATOMS))
    assert int(asked.scene_of.bincount().max()) <= 2
    clips = lessons.clips(4, 3, 32, generator(), "window")
    assert clips.frames.shape == (4, 3, 3, 32, 32)
    assert bool(clips.masks[:, 0].flatten(1).any(1).all()), "the object must be seen on the first frame"


def test_only_annotated_frames_are_taken_as_truth(tmp_path):
    (video,) = find_annotated(write_like_youtube_vos(tmp_path, "train", 8, every=2), "ref-youtube-vos")
    assert video.queries[0].frames == tuple(range(0, NUM_FRAMES, 2))


def test_masks_lie_where_the_object_is_shown(tmp_path):
    pytest.importorskip("pycocotools")
    lessons = VideoLessons(find_annotated(write_mevis(tmp_path), "mevis", "valid_u")[1:])
    clips = lessons.clips(4, 3, 48, generator(1), "whole")
    bright = draw_video().pixels[0][draw_video().masks[0]].mean()
    dark = draw_video().pixels[0][~draw_video().masks[0]].mean()
    grey = clips.frames.float().mean(2)
    for frame, mask in zip(grey.flatten(0, 1), clips.masks.flatten(0, 1), strict=True):
        inside, outside = frame[mask].mean(), frame[~mask].mean()
        assert (inside > outside) == (bright > dark)


def test_lessons_are_decided_by_their_generator(tmp_path):
    pytest.importorskip("pycocotools")
    lessons = VideoLessons(find_annotated(write_mevis(tmp_path), "mevis", "valid_u"))
    first, second = (lessons.clips(2, 3, 32, generator(4), "window") for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.masks, second.masks)


def test_frames_that_a_person_owns_are_the_truth_of_a_project(project_folder):
    (video,) = find_annotated(project_folder, "project")
    (query,) = video.queries
    assert query.text == "the disc"
    assert query.frames == OWNED
    disc = draw_moving_disc(8, (40, 64), 8)
    for frame in OWNED:
        np.testing.assert_array_equal(query.mask(frame), disc.masks[frame])
    assert video.open_frames().shape == (8, 40, 64, 3)


def test_a_folder_of_projects_is_read_project_by_project(project_folder):
    assert len(find_annotated(project_folder.parent, "project")) == 1


def test_clips_longer_than_what_is_known_show_frames_twice(project_folder):
    lessons = VideoLessons(find_annotated(project_folder, "project"))
    asked = lessons.asked(2, 1, 4, 32, generator(), ())
    assert asked.queries == ("the disc", "the disc")
    assert bool(asked.masks.flatten(2).any(2).all())


def test_training_on_a_project_runs_and_keeps_scenes_in_the_mix(project_folder, tmp_path):
    torch.set_num_threads(1)
    lessons = MixedLessons(VideoLessons(find_annotated(project_folder, "project")), SceneLessons(), 0.5)
    trainer = Trainer(*build_tiny(), tiny_recipe(4), tmp_path / "run", source=lessons)
    trainer.train()
    assert trainer.step == 4
    kinds = {lessons.asked(1, 1, 4, 32, generator(seed), ("colour",)).kinds[0] for seed in range(12)}
    assert kinds == {"video", "colour"}


def test_project_of_another_video_is_refused(project_folder, tmp_path):
    record = ProjectFolder(project_folder).load()
    (video,) = find_annotated(project_folder, "project")
    assert video.open_frames().shape[0] == record.video.shape[0]
    wrong = replace(record.video, source=None)
    copy = ProjectFolder(tmp_path / "copy")
    copy.create()
    copy.save(replace(record, video=wrong, tracks=()))
    with pytest.raises(ProjectError, match="made from an array"):
        find_annotated(copy.root, "project")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("project", "project.json"), ("mevis", "meta_expressions.json"), ("pictures", "must be one of project, mevis")],
    ids=["no-project", "no-benchmark", "no-such-kind"],
)
def test_folders_without_data_are_explained(tmp_path, kind, words):
    with pytest.raises((InputError, ProjectError), match=words):
        find_annotated(tmp_path, kind)


def test_a_split_without_published_masks_cannot_be_learned_from(tmp_path):
    pytest.importorskip("pycocotools")
    with pytest.raises(InputError, match="must have known masks"):
        find_annotated(write_mevis(tmp_path, "valid"), "mevis", "valid")
