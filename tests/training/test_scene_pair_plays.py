"""Objects that follow, overtake or bump into each other do so in the picture."""

import numpy as np
import pytest
from fixtures.scenes import drawn

from napari_virst.training.scene_encounters import gaps
from napari_virst.training.scene_meaning import meaning
from napari_virst.training.scene_phrases import Phrase
from napari_virst.training.scenes import FIRST_EVALUATION_SEED, plan_queries

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def planned():
    """Planned queries of the kinds that speak of two objects."""
    kinds = {"relation": 120, "reasoning": 80}
    return {kind: plan_queries(num, NUM_FRAMES, FIRST_EVALUATION_SEED, kinds=(kind,)) for kind, num in kinds.items()}


def related(planned, relation):
    queries = [query for kind in ("relation", "reasoning") for query in planned[kind]]
    found = [query for query in queries if query.phrase.relation == relation]
    assert found, f"no query says {relation}"
    return [
        (query.scene.objects[query.meant[0]], query.scene.objects[meaning(query.scene, query.phrase.other)[0]], query)
        for query in found
    ]


def test_followers_stay_behind_on_the_same_way(planned):
    for item, other, _ in related(planned, "follows"):
        way = np.array(other.motion.displacement) / np.hypot(*other.motion.displacement)
        ahead_T = (item.centre_T2 - other.centre_T2) @ way
        assert (ahead_T < -0.05).all()
        assert np.array(item.motion.displacement) @ way > 0.1


def test_overtaking_objects_are_first_behind_and_then_ahead(planned):
    for item, other, _ in related(planned, "overtakes"):
        way = np.array(other.motion.displacement) / np.hypot(*other.motion.displacement)
        ahead_T = (item.centre_T2 - other.centre_T2) @ way
        assert ahead_T[0] < -0.05
        assert ahead_T[-1] > 0.05


def test_bumping_objects_move_until_their_pixels_meet_the_resting_one(planned):
    found = related(planned, "bumps")
    for (item, other, query), owner_THW in zip(found, drawn([query for _, _, query in found])[1], strict=True):
        gap_T = gaps(item, other)
        moment = int(np.argmin(gap_T))
        assert gap_T[0] > 0.05
        assert np.hypot(*(item.motion.centre_T2[moment] - item.motion.centre_T2[0])) > 0.08
        assert np.hypot(*(other.motion.centre_T2[moment] - other.motion.centre_T2[0])) < 0.03
        second = query.scene.objects.index(other)
        mine, its = (np.argwhere(owner_THW[moment] == index + 1) for index in (query.meant[0], second))
        assert np.hypot(*(mine[:, None] - its[None]).transpose(2, 0, 1)).min() < 5


@pytest.mark.parametrize(("relation", "inverse"), [("bumps", "bumped"), ("follows", "followed")])
def test_inverse_relations_mean_the_other_object(planned, relation, inverse):
    item, other, query = related(planned, inverse)[0]
    assert meaning(query.scene, query.phrase) == (query.scene.objects.index(item),)
    swapped = Phrase(query.phrase.noun, relation=relation, other=query.phrase.other)
    assert meaning(query.scene, swapped) != query.meant
    assert other is not item
