from __future__ import annotations

import pytest
import torch

from napari_virst.training.scene_lessons import STILL_TOPICS, TOPICS, asked_scenes
from napari_virst.training.scene_objects import COLOURS


def draw(seed=3, num_scenes=4, num_queries=4, num_frames=4, size=48, kinds=("colour", "position", "motion")):
    return asked_scenes(num_scenes, num_queries, num_frames, size, torch.Generator().manual_seed(seed), kinds)


def test_queries_of_one_scene_stand_together_and_differ():
    scenes = draw()
    assert scenes.scene_of.tolist() == sorted(scenes.scene_of.tolist())
    assert set(scenes.scene_of.tolist()) == {0, 1, 2, 3}
    assert len(scenes.queries) == len(scenes.masks) == len(scenes.kinds) == len(scenes.scene_of)
    assert len(scenes.queries) > len(scenes.frames), "no scene was asked more than one thing"
    assert max(scenes.scene_of.bincount()) <= 4


def test_every_answer_is_a_union_of_whole_visible_objects():
    scenes = draw()
    for mask, scene in zip(scenes.masks, scenes.scene_of, strict=True):
        owners = scenes.owners[scene]
        for owner in owners.unique():
            inside = mask[owners == owner]
            assert bool(inside.all()) or not bool(inside.any())
        assert not bool(mask[owners == 0].any())


def test_the_same_seed_gives_the_same_scenes():
    first, second = draw(11), draw(11)
    assert torch.equal(first.frames, second.frames)
    assert first.queries == second.queries
    assert torch.equal(first.atoms, second.atoms)


def test_kinds_in_time_are_not_asked_of_single_pictures():
    assert set(draw(num_frames=1).kinds) <= {"colour", "position"}


def test_classes_are_within_their_topics_and_still_topics_are_known_of_every_object():
    scenes = draw(num_scenes=8)
    for column, (topic, num_classes) in enumerate(TOPICS.items()):
        classes = scenes.facts[..., column]
        assert int(classes.min()) >= -1
        assert int(classes.max()) < num_classes, topic
    num_objects = scenes.owners.flatten(1).amax(1)
    for row, num in enumerate(num_objects.tolist()):
        known = scenes.facts[row, :num][:, [list(TOPICS).index(topic) for topic in STILL_TOPICS]]
        assert bool((known >= 0).all())


def test_objects_that_a_colour_query_means_have_that_colour():
    scenes = draw(num_scenes=12, kinds=("colour",))
    column, colours = list(TOPICS).index("colour"), list(COLOURS)
    checked = 0
    for query, mask, scene in zip(scenes.queries, scenes.masks, scenes.scene_of, strict=True):
        named = [colour for colour in colours if colour in query.split()]
        if len(named) != 1:
            continue
        for owner in scenes.owners[scene][mask].unique().tolist():
            assert scenes.facts[scene, owner - 1, column] == colours.index(named[0]), query
            checked += 1
    assert checked > 3


@pytest.mark.parametrize("num_queries", [1, 2], ids=["one", "two"])
def test_no_more_queries_than_allowed(num_queries):
    assert int(draw(num_queries=num_queries).scene_of.bincount().max()) <= num_queries
