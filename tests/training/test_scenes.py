"""Procedural scenes: what a query says is true, masks are exact, and a seed decides everything."""

import numpy as np
import pytest
import torch

from napari_virst.training.scene_facts import is_fact, is_related
from napari_virst.training.scene_meaning import RANK_RATIO, meaning
from napari_virst.training.scene_render import render
from napari_virst.training.scene_shapes import SHAPES, signed_distance
from napari_virst.training.scenes import (
    FIRST_EVALUATION_SEED,
    HELD_OUT_COMBINATIONS,
    KINDS,
    follow_scenes,
    language_scenes,
    plan_queries,
    sample_scene,
    vocabulary,
)

SIZE = 64


@pytest.fixture(scope="module")
def planned():
    """Five hundred planned queries of all kinds."""
    return plan_queries(500, 4, FIRST_EVALUATION_SEED)


def of_kind(planned, *kinds):
    return [query for query in planned if query.kind in kinds]


def owners(queries):
    """Pixels of each object of each planned query: (B, T, H, W) int."""
    generator = torch.Generator().manual_seed(0)
    return render([query.scene for query in queries], 128, generator, clean=True)[1].numpy()


@pytest.mark.parametrize("make", [language_scenes, follow_scenes], ids=["language", "follow"])
def test_same_seed_gives_identical_clips_and_another_seed_does_not(make):
    first, again, other = (make(4, 3, SIZE, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.masks, again.masks)
    assert first.queries == again.queries
    assert first.kinds == again.kinds
    assert not torch.equal(first.frames, other.frames)


@pytest.mark.parametrize("make", [language_scenes, follow_scenes], ids=["language", "follow"])
def test_generator_moves_on_between_calls(make):
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(make(2, 2, SIZE, generator=generator).frames, make(2, 2, SIZE, generator=generator).frames)


@pytest.mark.parametrize("make", [language_scenes, follow_scenes], ids=["language", "follow"])
@pytest.mark.parametrize(("num", "frames", "size"), [(1, 1, 48), (3, 2, 64), (2, 5, 96)])
def test_clips_have_the_promised_shapes_and_types(make, num, frames, size):
    batch = make(num, frames, size, seed=3)
    assert batch.frames.shape == (num, frames, 3, size, size)
    assert batch.frames.dtype == torch.uint8
    assert batch.masks.shape == (num, frames, size, size)
    assert batch.masks.dtype == torch.bool
    assert len(batch.queries) == len(batch.kinds) == num


def test_follow_target_covers_forty_pixels_of_the_first_frame_and_has_no_words():
    batch = follow_scenes(24, 3, 128, seed=11)
    assert int(batch.masks[:, 0].sum((1, 2)).min()) >= 40
    assert set(batch.queries) == {""}
    assert set(batch.kinds) == {"follow"}


def test_pixels_beyond_the_picture_are_gray_and_never_target():
    batch = follow_scenes(32, 2, SIZE, seed=2)
    gray = (batch.frames == 127).all(2)
    barred = gray.float().mean((1, 2, 3)) > 0.1
    assert 1 <= int(barred.sum()) < 20
    beyond = gray.all(-1, keepdim=True) | gray.all(
        -2, keepdim=True
    )  # whole rows and columns; a texture may be gray too
    assert bool((beyond & gray)[barred].any())
    assert not bool((batch.masks & beyond)[barred].any())


def test_mask_is_empty_exactly_where_nothing_is_meant():
    batch = language_scenes(48, 3, SIZE, seed=12)
    empty = [not bool(mask.any()) for mask in batch.masks]
    assert empty == [kind == "absent" for kind in batch.kinds]


def test_queries_use_no_word_outside_the_vocabulary():
    words = set(vocabulary())
    for seed, held_out in ((21, "exclude"), (22, "include")):
        for query in plan_queries(500, 4, seed, held_out=held_out):
            assert set(query.text.split()) <= words, query.text


def test_kinds_are_balanced_and_only_those_asked_for():
    asked = ("rank", "relation", "absent")
    kinds = [query.kind for query in plan_queries(150, 4, 9, kinds=asked)]
    assert set(kinds) == set(asked)
    assert min(kinds.count(kind) for kind in asked) > 25
    assert {query.kind for query in plan_queries(300, 4, 10)} == set(KINDS)


def test_meant_objects_are_those_the_phrase_refers_to(planned):
    for query in planned:
        assert meaning(query.scene, query.phrase) == query.meant
        assert (len(query.meant) == 0) == (query.kind == "absent")
        assert (len(query.meant) > 1) == query.phrase.plural or query.kind == "absent"


def test_leftmost_objects_lie_left_of_all_others_in_the_picture(planned):
    ends = {"leftmost": (1, 1), "rightmost": (1, -1), "topmost": (0, 1), "bottommost": (0, -1)}
    queries = [query for query in of_kind(planned, "position") if query.phrase.superlative and not query.phrase.facts]
    queries = [query for query in queries if query.phrase.noun in ("any", "cell")]
    assert len(queries) >= 3
    for query, owner_THW in zip(queries, owners(queries), strict=True):
        axis, sign = ends[query.phrase.superlative]
        places = [np.argwhere(owner_THW[0] == number + 1) for number in range(len(query.scene.objects))]
        means = [sign * place[:, axis].mean() for place in places]
        assert int(np.argmin(means)) == query.meant[0]


def test_ranked_objects_differ_in_area_by_a_clear_factor(planned):
    queries = [query for query in of_kind(planned, "rank") if query.phrase.superlative in ("largest", "smallest")]
    assert len(queries) >= 5
    for query in queries:
        target = query.scene.objects[query.meant[0]]
        rivals = [
            item
            for item in query.scene.objects
            if item is not target
            and query.phrase.noun in ("any", "cell", item.shape)
            and all(is_fact(item, fact) for fact in query.phrase.facts)
        ]
        for rival in rivals:
            large, small = (target, rival) if query.phrase.superlative == "largest" else (rival, target)
            assert (large.radius_T >= RANK_RATIO * small.radius_T).all()


def test_objects_said_to_move_somewhere_do_so_in_the_picture(planned):
    steps = {"move:left": (1, -1), "move:right": (1, 1), "move:up": (0, -1), "move:down": (0, 1)}
    queries = [query for query in of_kind(planned, "motion") if set(query.phrase.facts) & set(steps)]
    assert len(queries) >= 5
    for query in queries:
        axis, sign = steps[next(fact for fact in query.phrase.facts if fact in steps)]
        centre_T2 = query.scene.objects[query.meant[0]].centre_T2
        camera = np.abs(query.scene.camera_T2[-1] - query.scene.camera_T2[0]).max()
        moved = sign * (centre_T2[-1] - centre_T2[0])[axis]
        assert moved > max(0.07, 1.3 * camera)


def test_growing_objects_grow_and_dividing_ones_become_two(planned):
    queries = of_kind(planned, "change", "division")
    for query, owner_THW in zip(queries, owners(queries), strict=True):
        item = query.scene.objects[query.meant[0]]
        fact = next(fact for fact in query.phrase.facts if fact.startswith("change:"))
        if fact == "change:divide":
            assert item.motion.separation_T[0] == 0
            assert item.motion.separation_T[-1] >= 1
        else:
            assert (item.radius_T[-1] > 1.4 * item.radius_T[0]) == (fact == "change:grow")
        assert bool((owner_THW == query.meant[0] + 1).any())


def test_related_objects_stand_where_the_query_says(planned):
    queries = [query for query in of_kind(planned, "relation") if query.phrase.relation != "nearest"]
    assert len(queries) >= 5
    for query in queries:
        other = meaning(query.scene, query.phrase.other)
        assert other is not None
        assert is_related(query.scene.objects[query.meant[0]], query.phrase.relation, query.scene.objects[other[0]])
        assert other[0] not in query.meant


def test_held_out_combinations_are_neither_shown_nor_named_in_training():
    queries = plan_queries(400, 4, 31)
    shown = {(item.colour, item.shape) for query in queries for item in query.scene.objects}
    assert not shown & HELD_OUT_COMBINATIONS
    for query in queries:
        for phrase in filter(None, (query.phrase, query.phrase.other)):
            colours = [fact.removeprefix("colour:") for fact in phrase.facts if fact.startswith("colour:")]
            assert not {(colour, phrase.noun) for colour in colours} & HELD_OUT_COMBINATIONS


def test_held_out_combinations_are_asked_for_in_evaluation():
    queries = plan_queries(400, 4, FIRST_EVALUATION_SEED, held_out="include", kinds=("colour_shape",))
    meant = {(item.colour, item.shape) for query in queries for item in (query.scene.objects[query.meant[0]],)}
    assert meant & HELD_OUT_COMBINATIONS


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_area_of_the_unit_disc(shape):
    axis = torch.linspace(-2, 2, 401)
    inside = signed_distance(shape, axis.expand(401, 401), axis[:, None].expand(401, 401)) < 0
    assert float(inside.float().mean()) * 16 == pytest.approx(np.pi, rel=0.04)


def test_one_frame_is_asked_nothing_about_time():
    assert not {"motion", "speed", "change", "division", "event"} & set(language_scenes(40, 1, 32, seed=1).kinds)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"kinds": ("colour", "smell"), "seed": 1}, "smell"),
        ({}, "seed"),
        ({"seed": 1, "generator": torch.Generator()}, "seed"),
        ({"kinds": (), "seed": 1}, "kinds"),
    ],
    ids=["unknown kind", "no seed", "seed and generator", "no kind"],
)
def test_wrong_requests_say_what_is_wrong(arguments, word):
    with pytest.raises(ValueError, match=word):
        language_scenes(2, 3, SIZE, **arguments)


def test_a_time_kind_on_one_frame_says_what_is_wrong():
    with pytest.raises(ValueError, match="2 frames"):
        language_scenes(2, 1, SIZE, seed=1, kinds=("motion",))


def test_sample_has_answers_for_its_queries_and_an_object_that_goes_away():
    sample = sample_scene(num_frames=24, size=96)
    again = sample_scene(num_frames=24, size=96)
    assert sample.frames.shape == (24, 96, 96, 3)
    assert sample.frames.dtype == np.uint8
    assert np.array_equal(sample.frames, again.frames)
    assert len(sample.queries) == len(sample.masks) == 3
    assert all(mask.shape == (24, 96, 96) and mask.any() for mask in sample.masks)
    assert any(not mask.any((1, 2)).all() for mask in sample.masks)


def test_what_divides_grows_or_shrinks_can_be_seen_doing_so():
    queries = plan_queries(150, 8, 3, kinds=("division", "change"), held_out="include")
    told = {"change:divide", "change:grow", "change:shrink"}
    changing = [query for query in queries if told & set(query.phrase.facts)]
    assert len(changing) > 50
    for query, owners_THW in zip(changing, owners(changing), strict=True):
        for index in query.meant:
            assert (owners_THW == index + 1).any((1, 2)).all(), query.text


def test_no_query_by_size_hangs_on_something_large_at_one_time_and_not_at_another():
    items = [item for query in plan_queries(300, 8, 3, kinds=("change",)) for item in query.scene.objects]
    changing = [item for item in items if item.radius_T.min() <= 0.07 and item.radius_T.max() >= 0.1]
    assert changing
    assert {is_fact(item, fact) for item in changing for fact in ("size:large", "size:small")} == {None}
