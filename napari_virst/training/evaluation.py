"""Asks a segmenter about procedural scenes that training never saw, through its whole pipeline."""

# B scenes, T frames, C colours, H W rows and columns

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_virst.errors import InputError
from napari_virst.evaluation.metrics import score_frames
from napari_virst.io.video import open_video
from napari_virst.records import Job, Query, Span
from napari_virst.training.scenes import FIRST_EVALUATION_SEED, KINDS, language_scenes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Segmenter

KIND_GROUPS = {"appearance": ("colour", "shape", "colour_shape", "brightness")}
"""Groups that are reported beside the kinds they consist of."""

_SCENES_PER_DRAW = 16
"""Fixed, so that the first N scenes of a seed are the same however many are asked for."""


@dataclass(frozen=True)
class SceneScore:
    """How one scene went."""

    kind: str
    query: str
    j: float
    """Mean region similarity over all frames; 1 on a frame where nothing is to be found and nothing was."""
    f: float
    is_present: bool
    """Whether there was anything to find on any frame."""
    is_answered_absent: bool
    """Whether the answer was "not here" on every frame."""

    @property
    def j_and_f(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


def evaluation_scenes(
    seed: int, num_scenes: int, *, kinds: Sequence[str] | None = None, num_frames: int = 16, size: int = 128
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_], str, str]]:
    """Draw scenes with queries, held-out combinations of colour and shape among them.

    Parameters
    ----------
    seed
        At least ``FIRST_EVALUATION_SEED``.
    num_scenes
        How many.
    kinds
        Kinds of query to choose from, evenly; None for all.
    num_frames, size
        T, and H = W in pixels.

    Yields
    ------
    frames : (T, H, W, 3) uint8 RGB
    masks : (T, H, W) bool
    query : str
    kind : str

    Raises
    ------
    InputError
        When the seed is one of training's, or a kind is unknown.
    """
    if seed < FIRST_EVALUATION_SEED:
        raise InputError(f"A seed to evaluate with must be at least {FIRST_EVALUATION_SEED}; got {seed}.")
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise InputError(f'A kind of query must be one of {", ".join(KINDS)}; got "{unknown[0]}"; choose one.')
    if num_scenes < 1:
        raise InputError(f"The number of scenes must be at least 1; got {num_scenes}.")
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num_scenes, _SCENES_PER_DRAW):
        batch = language_scenes(
            _SCENES_PER_DRAW, num_frames, size, generator=generator, kinds=kinds or None, held_out="include"
        )
        frames_BTHWC = batch.frames.permute(0, 1, 3, 4, 2).contiguous().numpy()
        for number in range(min(_SCENES_PER_DRAW, num_scenes - start)):
            yield frames_BTHWC[number], batch.masks[number].numpy(), batch.queries[number], batch.kinds[number]


def score_scene(
    segmenter: Segmenter, frames: NDArray[np.uint8], masks: NDArray[np.bool_], query: str, kind: str
) -> SceneScore:
    """Ask one query: frames (T, H, W, 3) uint8 RGB, masks (T, H, W) bool the truth."""
    with open_video(frames, axes="TYXS") as video, video.reader() as reader:
        job = Job(Query(query), Span(0, len(frames)))
        found = {result.frame: result.mask for result in segmenter.run(reader, job, lambda: False)}
    nothing = np.zeros(masks.shape[1:], np.bool_)
    answers = [found.get(frame, nothing) for frame in range(len(frames))]
    score = score_frames(zip(answers, masks, strict=True))
    is_absent = not any(answer.any() for answer in answers)
    return SceneScore(kind, query, score.j, score.f, bool(masks.any()), is_absent)


def summarise(scores: Iterable[SceneScore]) -> dict[str, Any]:
    """Average scores of scenes.

    Returns
    -------
    dict
        "overall": J&F over the queries whose target is there. "kinds": the same by kind, in the order of ``KINDS``, and
        for ``KIND_GROUPS``. "absent": of the queries for something that is not there, the share answered "not here";
        of the others, the share wrongly answered so.
    """
    everything = list(scores)
    present = [score for score in everything if score.is_present]
    absent = [score for score in everything if not score.is_present]
    by_kind = {kind: [score for score in everything if score.kind == kind] for kind in KINDS}
    by_kind |= {name: [s for kind in members for s in by_kind[kind]] for name, members in KIND_GROUPS.items()}
    return {
        "overall": _average(present),
        "kinds": {name: _average(found) for name, found in by_kind.items() if found},
        "absent": {
            "answered_not_here": _share(absent),
            "num_absent": len(absent),
            "false_not_here": _share(present),
            "num_present": len(present),
        },
    }


def _average(scores: list[SceneScore]) -> dict[str, Any]:
    def mean(values: list[float]) -> float | None:
        return float(np.mean(values)) if values and not math.isnan(values[0]) else None

    return {
        "j_and_f": mean([score.j_and_f for score in scores]),
        "j": mean([score.j for score in scores]),
        "f": mean([score.f for score in scores]),
        "num_scenes": len(scores),
    }


def _share(scores: list[SceneScore]) -> float | None:
    return float(np.mean([score.is_answered_absent for score in scores])) if scores else None
