from __future__ import annotations

import numpy as np
import pytest

from napari_virst.errors import InputError
from napari_virst.records import FrameResult, Provenance
from napari_virst.training.evaluation import KIND_GROUPS, SceneScore, evaluation_scenes, score_scene, summarise
from napari_virst.training.scenes import KINDS


class Oracle:
    """Answers with masks it was told, whatever the query."""

    name, device = "oracle", "cpu"

    def __init__(self, masks):
        self.masks = masks

    def unknown_words(self, text):
        return ()

    def run(self, frames, job, should_stop):
        for frame in job.span:
            assert frames[frame].shape == (*self.masks.shape[1:], 3)
            yield FrameResult(frame, self.masks[frame], 1.0, 1.0, Provenance.PROPAGATED)


def draw(num, **options):
    return list(evaluation_scenes(7001, num, num_frames=4, size=32, **options))


def test_first_scenes_are_the_same_however_many_are_asked_for():
    few, many = draw(3), draw(18)
    assert len(many) == 18
    for (frames, masks, query, kind), (frames_b, masks_b, query_b, kind_b) in zip(few, many, strict=False):
        assert (query, kind) == (query_b, kind_b)
        np.testing.assert_array_equal(frames, frames_b)
        np.testing.assert_array_equal(masks, masks_b)


def test_frames_reach_the_segmenter_as_they_were_drawn():
    frames, masks, query, kind = draw(1)[0]

    class Careful(Oracle):
        def run(self, reader, job, should_stop):
            for result in super().run(reader, job, should_stop):
                np.testing.assert_array_equal(reader[result.frame], frames[result.frame])
                yield result

    assert score_scene(Careful(masks), frames, masks, query, kind).j_and_f == 1


def test_only_the_kinds_asked_for_are_drawn():
    assert {kind for *_, kind in draw(4, kinds=["colour", "absent"])} <= {"colour", "absent"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((6999, 1), "at least 7000"), ((7000, 0), "at least 1"), ((7000, 1, ["smell"]), "smell")],
    ids=["seed-of-training", "none", "unknown-kind"],
)
def test_wrong_requests_are_explained(arguments, words):
    seed, num, *kinds = arguments
    with pytest.raises(InputError, match=words):
        list(evaluation_scenes(seed, num, kinds=kinds[0] if kinds else None))


def test_not_here_is_told_apart_from_a_bad_mask():
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    there = np.zeros((2, 32, 32), bool)
    there[:, 4:9, 4:9] = True
    missed = score_scene(Oracle(np.zeros_like(there)), frames, there, "the dot", "colour")
    wrong = score_scene(Oracle(there[:, ::-1]), frames, there, "the dot", "colour")
    assert (missed.is_answered_absent, wrong.is_answered_absent) == (True, False)
    assert (missed.j_and_f, wrong.j_and_f) == (0, 0)
    absent = score_scene(Oracle(np.zeros_like(there)), frames, np.zeros_like(there), "the giraffe", "absent")
    assert (absent.j_and_f, absent.is_present) == (1, False)


def score(kind, j, *, present=True, answered_absent=False):
    return SceneScore(kind, "q", j, j, present, answered_absent)


def test_overall_is_over_what_is_there_and_absent_counts_both_mistakes():
    summary = summarise(
        [
            score("colour", 0.9),
            score("size", 0.5),
            score("shape", 0.0, answered_absent=True),
            score("absent", 1.0, present=False, answered_absent=True),
            score("absent", 0.0, present=False),
        ]
    )
    assert summary["overall"]["j_and_f"] == pytest.approx(1.4 / 3)
    assert summary["kinds"]["appearance"]["j_and_f"] == pytest.approx(0.45)
    assert summary["kinds"]["size"]["num_scenes"] == 1
    assert summary["absent"] == {
        "answered_not_here": 0.5,
        "num_absent": 2,
        "false_not_here": pytest.approx(1 / 3),
        "num_present": 3,
    }


def test_without_absent_scenes_their_share_is_unknown():
    assert summarise([score("colour", 0.9)])["absent"]["answered_not_here"] is None


def test_groups_are_of_known_kinds_and_take_no_kinds_name():
    assert all(set(members) <= set(KINDS) for members in KIND_GROUPS.values())
    assert not set(KIND_GROUPS) & set(KINDS)
