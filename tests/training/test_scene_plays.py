"""Little plays in procedural scenes: what is said to happen does happen, in the picture, and once."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from fixtures.scenes import drawn

from napari_virst.training.scene_fact_words import FACTS
from napari_virst.training.scene_facts import is_fact
from napari_virst.training.scene_meaning import TIME_ORDERS, meaning
from napari_virst.training.scene_nouns import NOUNS, SUPERLATIVES
from napari_virst.training.scene_objects import STYLES
from napari_virst.training.scene_plan import plan_scene
from napari_virst.training.scene_queries import propose
from napari_virst.training.scene_render import render
from napari_virst.training.scenes import FIRST_EVALUATION_SEED, language_scenes, plan_queries

NUM_FRAMES = 8
DYNAMIC = ("touches", "bumps", "bumped", "follows", "followed", "overtakes", "overtaken")


@pytest.fixture(scope="module")
def planned():
    """Planned queries of each kind that has plays in it."""
    kinds = {"motion": 150, "change": 80, "relation": 120, "time": 120, "reasoning": 80}
    return {kind: plan_queries(num, NUM_FRAMES, FIRST_EVALUATION_SEED, kinds=(kind,)) for kind, num in kinds.items()}


def saying(queries, fact):
    found = [query for query in queries if fact in query.phrase.facts]
    assert found, f"no query says {fact}"
    return found


def target(query):
    return query.scene.objects[query.meant[0]]


def without_target(query):
    """The same scene without the object that is meant."""
    others = tuple(item for item in query.scene.objects if item is not target(query))
    return replace(query, scene=replace(query.scene, objects=others))


def places(owner_THW, index):
    """Centre of the pixels of an object on every frame, (T, 2), in sides; nan where it is not seen."""
    points = [np.argwhere(owner_HW == index + 1) for owner_HW in owner_THW]
    return np.array([point.mean(0) / 128 if len(point) else (np.nan, np.nan) for point in points])


def test_spinning_objects_turn_three_quarters_on_the_spot_and_are_not_round(planned):
    for query in saying(planned["motion"], "move:spin"):
        item = target(query)
        assert abs(item.angle_T[-1] - item.angle_T[0]) >= 1.45 * np.pi
        assert np.ptp(item.motion.centre_T2, axis=0).max() < 0.03
        assert item.shape not in ("circle", "ring")
        others = [other for other in query.scene.objects if other is not item and other.shape == item.shape]
        assert all(abs(other.spin) < np.pi for other in others)


@pytest.mark.parametrize(("fact", "at_end"), [("move:stop", True), ("move:start", False)], ids=["stop", "start"])
def test_objects_that_stop_or_start_rest_a_third_of_the_clip_at_that_end_only(planned, fact, at_end):
    for query in saying(planned["motion"], fact):
        moves_T = np.hypot(*np.diff(target(query).motion.centre_T2, axis=0).T) > 0.004
        moves_T = moves_T[::-1] if at_end else moves_T
        assert not moves_T[: round(0.33 * len(moves_T))].any()
        assert moves_T[-1]


def test_fading_objects_lose_their_contrast_but_keep_their_mask_while_seen(planned):
    queries = saying(planned["change"], "change:fade")
    frames, owners = drawn(queries)
    empty, _ = drawn([without_target(query) for query in queries])
    for query, with_it, without_it, owner_THW in zip(queries, frames, empty, owners, strict=True):
        item, index = target(query), query.meant[0]
        opacity_T = item.motion.opacity_T
        assert opacity_T[0] == 1
        assert opacity_T[-1] <= 0.35
        assert (np.diff(opacity_T) <= 1e-9).all()
        areas_T = (owner_THW == index + 1).sum((1, 2))
        assert ((areas_T > 0) == (opacity_T > 0)).all()
        first, last = areas_T.nonzero()[0][[0, -1]]
        contrast = [np.abs(with_it - without_it)[t][owner_THW[t] == index + 1].mean() for t in (first, last)]
        assert contrast[1] < 0.6 * contrast[0]


def test_blinking_objects_go_off_at_least_twice_and_have_no_mask_meanwhile(planned):
    queries = saying(planned["change"], "change:blink")
    for query, owner_THW in zip(queries, drawn(queries)[1], strict=True):
        seen_T = (owner_THW == query.meant[0] + 1).any((1, 2))
        assert (np.diff(seen_T.astype(int)) == -1).sum() >= 2
        assert seen_T[0]
        assert seen_T[-1]


def test_objects_that_come_back_are_away_in_between(planned):
    queries = saying(planned["time"], "event:return")
    for query, owner_THW in zip(queries, drawn(queries)[1], strict=True):
        areas_T = (owner_THW == query.meant[0] + 1).sum((1, 2))
        assert areas_T[0] > 0
        assert areas_T[-1] > 0
        assert not areas_T.all()


@pytest.mark.parametrize("order", sorted(TIME_ORDERS))
def test_first_and_last_ones_come_and_go_first_and_last_in_the_picture(planned, order):
    queries = [query for query in planned["time"] if query.phrase.superlative == order and not query.phrase.facts]
    queries = [query for query in queries if query.phrase.noun in ("any", "cell", "animal")]
    if not queries:
        pytest.skip("no such query among these")
    arriving, latest = order.split()[0] in ("appears", "enters"), order.endswith("last")
    for query, owner_THW in zip(queries, drawn(queries)[1], strict=True):
        moments = {}
        for index in range(len(query.scene.objects)):
            seen_T = (owner_THW == index + 1).any((1, 2))
            happens = not seen_T[0 if arriving else -1] and seen_T.any()
            if happens and is_fact(query.scene.objects[index], TIME_ORDERS[order]):
                moments[index] = int(np.flatnonzero(seen_T)[0 if arriving else -1])
        assert len(moments) >= 2
        assert query.meant[0] == (max if latest else min)(moments, key=moments.get)
        assert len(set(moments.values())) > 1


def test_two_step_queries_name_their_landmark_mostly_by_more_than_looks(planned):
    looks = ("colour", "level", "form", "size")
    deeper = [
        query.phrase.other.superlative is not None
        or query.phrase.other.relation is not None
        or any(fact.split(":")[0] not in looks for fact in query.phrase.other.facts)
        for query in planned["reasoning"]
    ]
    assert sum(deeper) > 0.7 * len(deeper)


@pytest.mark.parametrize("kind", ["relation", "reasoning"])
def test_one_frame_is_asked_only_what_it_can_show(kind):
    for query in plan_queries(60, 1, 5, kinds=(kind,)):
        phrases = [query.phrase, query.phrase.other]
        assert query.phrase.relation not in DYNAMIC
        facts = [fact for phrase in phrases for fact in phrase.facts]
        assert not {fact.split(":")[0] for fact in facts} & {"move", "change", "event"}
        assert not {phrase.superlative for phrase in phrases} & {*TIME_ORDERS, "fastest", "slowest"}


def test_absent_queries_on_one_frame_do_not_speak_of_time():
    for query in plan_queries(80, 1, 6, kinds=("absent",)):
        assert not {fact.split(":")[0] for fact in query.phrase.facts} & {"move", "change", "event"}


def test_old_facts_of_motion_and_change_stay_the_more_frequent_ones(planned):
    new = ("move:spin", "move:stop", "move:start", "change:fade", "change:blink")
    for kind in ("motion", "change"):
        share = np.mean([any(fact in new for fact in query.phrase.facts) for query in planned[kind]])
        assert 0.1 < share < 0.5


def test_arena_scenes_show_animals_that_face_the_way_they_go():
    rng, seen = Random(4), 0
    for _ in range(60):
        scene = plan_scene(rng, NUM_FRAMES, "motion", style="arena")
        for item in scene.objects:
            assert item.shape == "animal"
            assert item.colour is None
            if item.motion.manner == "straight":
                down, right = item.motion.displacement
                assert np.cos(item.angle_T[3] - np.arctan2(down, right)) > 0.95
                seen += 1
    assert seen > 10


def test_animals_bend_along_the_clip():
    scene = plan_scene(Random(1), NUM_FRAMES, "size", style="arena")
    still = next(index for index, item in enumerate(scene.objects) if item.motion.length == 0)
    owner_THW = render([scene], 128, torch.Generator().manual_seed(0), clean=True)[1][0]
    masks = owner_THW == still + 1
    assert any(not torch.equal(masks[0], mask) for mask in masks[1:])
    assert min(int(mask.sum()) for mask in masks) > 60


def test_styles_are_mixed_with_a_modest_share_of_arenas():
    styles = [query.scene.style for query in plan_queries(500, 4, 17)]
    assert set(styles) == set(STYLES)
    assert 0.05 < styles.count("arena") / len(styles) < 0.16


def test_scenes_of_three_frames_are_planned_without_plays():
    batch = language_scenes(20, 3, 48, seed=2, kinds=("motion", "change", "relation", "reasoning"))
    assert len(set(batch.kinds)) == 4


@pytest.mark.parametrize("kind", ["motion", "change", "relation", "time", "reasoning"])
def test_plays_are_decided_by_the_seed(kind):
    first, again = (plan_queries(12, NUM_FRAMES, 8, kinds=(kind,)) for _ in range(2))
    assert [query.text for query in first] == [query.text for query in again]
    assert all(
        np.array_equal(a.centre_T2, b.centre_T2) and np.array_equal(a.shown_T, b.shown_T)
        for one, other in zip(first, again, strict=True)
        for a, b in zip(one.scene.objects, other.scene.objects, strict=True)
    )


def test_proposals_are_true_for_a_scene_planned_for_another_kind():
    rng = Random(3)
    for _ in range(40):
        scene = plan_scene(rng, NUM_FRAMES, "plural")
        found = propose(rng, scene, "reasoning")
        assert found is None or meaning(scene, found[0]) == found[1]


def test_time_orders_have_words_and_events():
    assert set(TIME_ORDERS) <= set(SUPERLATIVES)
    assert set(TIME_ORDERS.values()) <= set(FACTS)
    assert "animal" in NOUNS
