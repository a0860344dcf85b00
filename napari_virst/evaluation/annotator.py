"""A simulated annotator: corrects one frame after another with the truth until the video is good enough."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_virst.errors import InputError
from napari_virst.evaluation.doubt import Evidence, distance_to, doubt, frame_to_review
from napari_virst.evaluation.metrics import contour_accuracy, region_similarity
from napari_virst.records import Anchor, Job, Query, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Frames, Segmenter

Policy = Literal["suggested", "worst", "uniform", "random"]
Reach = Literal["both", "forward", "everything"]


@dataclass(frozen=True)
class Practice:
    """How the annotator works.

    Raises
    ------
    InputError
        When a word or number is out of range.
    """

    policy: Policy = "suggested"
    """Which frame to correct next: the one that :func:`napari_virst.evaluation.doubt.frame_to_review` suggests; the
    one whose J&F is worst, which only the truth can tell; the one farthest from every fixed frame; or any."""
    reach: Reach = "both"
    """What a correction computes again: both sides up to the next fixed frames, only the later side, or all frames."""
    goal: float = 0.9
    """Mean J&F to stop at, 0…1."""
    budget: int = 15
    """Most corrections."""
    seed: int = 0
    """Decides what "random" chooses."""

    def __post_init__(self) -> None:
        for name, choices in (("policy", Policy), ("reach", Reach)):
            if getattr(self, name) not in get_args(choices):
                allowed = " or ".join(f'"{choice}"' for choice in get_args(choices))
                raise InputError(f'{name} must be {allowed}; got "{getattr(self, name)}"; choose one.')
        if not 0 < self.goal <= 1 or self.budget < 0:
            raise InputError(f"The goal must be 0…1 and the budget 0 or more; got {self.goal} and {self.budget}.")


@dataclass(frozen=True)
class Round:
    """Where the annotation stands after one correction and what followed from it."""

    num_corrections: int
    frame: int | None
    """The frame that was corrected; None for the first run."""
    j: float
    f: float
    num_recomputed: int
    """Frames that the segmenter returned."""
    seconds: float
    """Spent in the segmenter."""

    @property
    def j_and_f(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Annotation:
    """All rounds of one simulated annotation."""

    rounds: tuple[Round, ...]
    budget: int

    def corrections_to(self, goal: float) -> int:
        """Return after how many corrections mean J&F reached ``goal``; budget + 1 where it never did."""
        reached = (one.num_corrections for one in self.rounds if one.j_and_f >= goal)
        return next(reached, self.budget + 1)

    @property
    def num_recomputed(self) -> int:
        """Frames computed after the first run."""
        return sum(one.num_recomputed for one in self.rounds[1:])

    @property
    def seconds(self) -> float:
        """Spent in the segmenter after the first run."""
        return sum(one.seconds for one in self.rounds[1:])


class _Desk:
    """The annotator's state: masks, what is known of them, and how good they are."""

    def __init__(self, frames: Frames, truth: Callable[[int], NDArray[np.bool_] | None], span: Span) -> None:
        self.frames, self.truth, self.span = frames, truth, span
        num_frames = frames.shape[0]
        self.masks = np.zeros(frames.shape[:3], np.bool_)
        self.is_known = np.zeros(num_frames, np.bool_)
        self.presence, self.predicted_iou, self.agreement = np.full((3, num_frames), math.nan)
        self.scores = np.full((num_frames, 2), math.nan)
        self.fixed: set[int] = set()
        for frame in span:
            self._score(frame)

    @property
    def correctable(self) -> list[int]:
        """Frames whose truth is known and not given yet."""
        return [t for t in self.span if t not in self.fixed and not math.isnan(self.scores[t, 0])]

    def fix(self, frame: int) -> None:
        """Give the truth of a frame."""
        mask = self.truth(frame)
        assert mask is not None
        self.masks[frame], self.is_known[frame] = mask, True
        self.fixed.add(frame)
        self._score(frame)

    def known_mask(self, frame: int) -> NDArray[np.bool_] | None:
        """Return what is held of a frame now."""
        return self.masks[frame].copy() if self.is_known[frame] else None

    def follow(
        self, segmenter: Segmenter, query: Query, span: Span, focus: int | None, *, may_stop_early: bool
    ) -> tuple[int, float]:
        """Have ``span`` computed; return how many frames were, and the seconds."""
        anchors = tuple(Anchor(frame, self.masks[frame].copy()) for frame in sorted(self.fixed))
        if not query.text and not anchors:
            return 0, 0.0
        known = self.known_mask if may_stop_early else None
        job = Job(query, span, anchors, focus_frame=focus, known_mask=known)
        start_s, changed = time.perf_counter(), set()
        for result in segmenter.run(self.frames, job, lambda: False):
            self.masks[result.frame], self.is_known[result.frame] = result.mask, True
            self.presence[result.frame], self.predicted_iou[result.frame] = result.presence, result.predicted_iou
            self.agreement[result.frame] = result.agreement
            changed.add(result.frame)
        seconds = time.perf_counter() - start_s
        for frame in changed:
            self._score(frame)
        return len(changed), seconds

    def evidence(self) -> Evidence:
        """Return what can be known without the truth."""
        areas = np.count_nonzero(self.masks, axis=(1, 2)).astype(float)
        return Evidence(self.presence, self.predicted_iou, areas, self.agreement)

    def _score(self, frame: int) -> None:
        truth = self.truth(frame) if frame in self.span else None
        if truth is not None:
            mask = self.masks[frame]
            self.scores[frame] = region_similarity(mask, truth), contour_accuracy(mask, truth)


def annotate(
    segmenter: Segmenter,
    frames: Frames,
    truth: Callable[[int], NDArray[np.bool_] | None],
    query: str = "",
    practice: Practice | None = None,
    on_round: Callable[[Round], None] = lambda _: None,
) -> Annotation:
    """Annotate one object of a video.

    Parameters
    ----------
    segmenter
        What follows.
    frames
        The video.
    truth
        The true mask (H, W) bool of a frame; None where nobody knows it. Such frames are neither scored nor corrected.
    query
        What to ask first. Without words the true mask of the first frame that shows the object is given instead; it
        does not count as a correction, and frames before it are left out.
    practice
        How to choose frames, and when to stop.
    on_round
        Called after every run.

    Raises
    ------
    InputError
        When no frame has a truth, or no mask could be given.
    """
    practice = practice or Practice()
    asked = Query(query, name=query or "object")
    first = 0 if asked.text else _first_shown(frames.shape[0], truth)
    desk = _Desk(frames, truth, Span(first, frames.shape[0]))
    if not asked.text:
        desk.fix(first)
    elif not desk.correctable:
        raise InputError("A video must have a frame with a true mask to be annotated; got none; choose another.")
    rng = np.random.default_rng(practice.seed)
    rounds = [_round(desk, 0, None, *desk.follow(segmenter, asked, desk.span, None, may_stop_early=False))]
    on_round(rounds[0])
    while rounds[-1].j_and_f < practice.goal and len(rounds) <= practice.budget and desk.correctable:
        frame = _choose(desk, practice.policy, rng)
        desk.fix(frame)
        span, partly = _reached(desk, frame, practice.reach), practice.reach != "everything"
        spent = desk.follow(segmenter, asked, span, frame, may_stop_early=partly)
        rounds.append(_round(desk, len(rounds), frame, *spent))
        on_round(rounds[-1])
    return Annotation(tuple(rounds), practice.budget)


def _first_shown(num_frames: int, truth: Callable[[int], NDArray[np.bool_] | None]) -> int:
    for frame in range(num_frames):
        mask = truth(frame)
        if mask is not None and mask.any():
            return frame
    raise InputError("A track without words must have a true mask to begin with; got none; give a query.")


def _round(desk: _Desk, number: int, frame: int | None, num_recomputed: int, seconds: float) -> Round:
    j, f = np.nanmean(desk.scores, axis=0).tolist()
    return Round(number, frame, j, f, num_recomputed, seconds)


def _choose(desk: _Desk, policy: Policy, rng: np.random.Generator) -> int:
    frames = np.asarray(desk.correctable)
    if policy == "random":
        return int(rng.choice(frames))
    if policy == "worst":
        return int(frames[np.argmin(desk.scores[frames].sum(1))])
    distance = distance_to(desk.fixed, len(desk.scores))
    if policy == "uniform":
        return int(frames[np.argmax(distance[frames])])
    chosen = frame_to_review(doubt(desk.evidence(), desk.fixed), desk.fixed, set(frames.tolist()))
    assert chosen is not None
    return chosen


def _reached(desk: _Desk, frame: int, reach: Reach) -> Span:
    if reach == "everything":
        return desk.span
    before = max((f + 1 for f in desk.fixed if f < frame), default=desk.span.start)
    after = min((f for f in desk.fixed if f > frame), default=desk.span.stop)
    return Span(frame if reach == "forward" else before, after)


def write_curves(path: Path, annotations: Mapping[str, Annotation]) -> None:
    """Write every round of every annotation as a line of a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "corrections", "frame", "j", "f", "j_and_f", "frames_recomputed", "seconds"])
        for name, annotation in annotations.items():
            for one in annotation.rounds:
                numbers = [f"{value:.4f}" for value in (one.j, one.f, one.j_and_f)]
                frame = "" if one.frame is None else one.frame
                writer.writerow([name, one.num_corrections, frame, *numbers, one.num_recomputed, f"{one.seconds:.3f}"])
