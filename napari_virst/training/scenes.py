"""Endless procedural videos: with language and exact masks, or with a mask to follow.

Seeds from ``FIRST_EVALUATION_SEED`` on are kept for evaluation; training uses smaller ones.
"""

# B scenes, T frames, C colours, H W rows and columns

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import torch

from napari_virst.training.scene_follow import draw_clips
from napari_virst.training.scene_objects import HELD_OUT_COMBINATIONS
from napari_virst.training.scene_phrases import say, vocabulary
from napari_virst.training.scene_plan import plan_scene
from napari_virst.training.scene_queries import KINDS, KINDS_IN_TIME, propose
from napari_virst.training.scene_render import render
from napari_virst.training.scene_sample import plan_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.training.scene_objects import Scene
    from napari_virst.training.scene_phrases import Phrase

__all__ = [
    "FIRST_EVALUATION_SEED",
    "HELD_OUT_COMBINATIONS",
    "KINDS",
    "Sample",
    "SceneBatch",
    "follow_scenes",
    "language_scenes",
    "sample_scene",
    "vocabulary",
]

FIRST_EVALUATION_SEED = 7_000
"""Training keeps below it, evaluation starts from it."""

_TRIES_PER_KIND = 8


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """Clips of equal length and size, each with one query."""

    frames: Tensor
    """(B, T, 3, H, W) uint8 RGB, 0…255."""
    masks: Tensor
    """(B, T, H, W) bool, union of the visible parts of all objects the query refers to."""
    queries: tuple[str, ...]
    """B queries; empty where a mask is to be followed."""
    kinds: tuple[str, ...]
    """B kinds, each of ``KINDS`` or "follow"."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip to try the program on."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3) uint8 RGB."""
    queries: tuple[str, ...]
    """What may be asked."""
    masks: tuple[NDArray[np.bool_], ...]
    """(T, H, W) bool, the answer to each query."""
    name: str
    """What to call the clip."""


@dataclass(frozen=True, eq=False)
class PlannedQuery:
    """A scene with one query, before drawing: the ground truth that tests look into."""

    scene: Scene
    phrase: Phrase
    text: str
    kind: str
    meant: tuple[int, ...]
    """Indices into ``scene.objects``."""


def language_scenes(
    num_scenes: int,
    num_frames: int,
    size: int,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    kinds: Sequence[str] | None = None,
    held_out: Literal["exclude", "include"] = "exclude",
    device: torch.device | str = "cpu",
) -> SceneBatch:
    """Draw clips of moving shapes or cells, each with a query that is true and has one meaning.

    Parameters
    ----------
    num_scenes, num_frames
        B and T; on 1 frame the kinds that speak of time (``scene_queries.KINDS_IN_TIME``) are left out.
    size
        H = W in pixels, at least 32.
    seed, generator
        One of them decides everything; the same one gives the same clips on the same device.
    kinds
        Kinds to choose from, evenly, so that a kind given twice comes twice as often; None for all. A kind that no
        scene would carry after several tries is replaced by another one of them.
    held_out
        "exclude" keeps ``HELD_OUT_COMBINATIONS`` out of pictures and queries; "include" allows them.
    device
        Where the clips are drawn.

    Raises
    ------
    ValueError
        If a kind is unknown, a size is too small, or neither `seed` nor `generator` is given.
    """
    chosen = _checked_kinds(kinds, num_frames)
    if num_scenes < 1 or num_frames < 1 or size < 32:
        raise ValueError(
            f"Scenes must be at least 1 of 1 frame of 32 pixels; got {num_scenes} of {num_frames} of {size}."
        )
    source = _generator(seed, generator)
    planned = plan_queries(num_scenes, num_frames, _seed_from(source), kinds=chosen, held_out=held_out)
    pixels = torch.Generator(device).manual_seed(_seed_from(source))
    frames, owner = render([query.scene for query in planned], size, pixels)
    masks = torch.stack([_mask(owner[number], query.meant) for number, query in enumerate(planned)])
    return SceneBatch(frames, masks, tuple(query.text for query in planned), tuple(query.kind for query in planned))


def plan_queries(
    num_scenes: int, num_frames: int, seed: int, *, kinds: Sequence[str] = KINDS, held_out: str = "exclude"
) -> list[PlannedQuery]:
    """Plan scenes with queries, without drawing them; parameters as for ``language_scenes``."""
    rng = Random(seed)
    allow = held_out == "include"
    return [_plan_query(rng, num_frames, rng.choice(kinds), kinds, allow) for _ in range(num_scenes)]


def _plan_query(rng: Random, num_frames: int, kind: str, kinds: Sequence[str], allow_held_out: bool) -> PlannedQuery:
    for attempt in range(1000):
        if attempt and attempt % _TRIES_PER_KIND == 0:
            kind = rng.choice(kinds)
        scene = plan_scene(rng, num_frames, kind, allow_held_out=allow_held_out)
        found = propose(rng, scene, kind, allow_held_out=allow_held_out)
        if found is not None:
            return PlannedQuery(scene, found[0], _say(rng, scene, *found), kind, found[1])
    raise ValueError(
        f"Scenes of {num_frames} frames must be able to show the kinds asked for; got {tuple(kinds)}; give more frames."
    )


def _say(rng: Random, scene: Scene, phrase: Phrase, meant: tuple[int, ...]) -> str:
    shapes = frozenset(item.shape for item in scene.objects)
    return say(rng, phrase, num_meant=len(meant), shapes_present=shapes)


def _mask(owner_THW: Tensor, meant: tuple[int, ...]) -> Tensor:
    mask_THW = torch.zeros_like(owner_THW, dtype=torch.bool)
    for index in meant:
        mask_THW |= owner_THW == index + 1
    return mask_THW


def follow_scenes(
    num_scenes: int,
    num_frames: int,
    size: int,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> SceneBatch:
    """Draw clips of one textured object to follow by its mask, framed as by a window that goes with it.

    Parameters
    ----------
    num_scenes, num_frames, size
        B, T and H = W in pixels.
    seed, generator
        One of them decides everything.
    device
        Where the clips are drawn.

    Returns
    -------
    SceneBatch
        Queries are empty and kinds "follow"; the object can be seen on frame 0.
    """
    source = _generator(seed, generator)
    frames, masks = draw_clips(num_scenes, num_frames, size, torch.Generator(device).manual_seed(_seed_from(source)))
    return SceneBatch(frames, masks, ("",) * num_scenes, ("follow",) * num_scenes)


def _checked_kinds(kinds: Sequence[str] | None, num_frames: int) -> Sequence[str]:
    chosen = KINDS if kinds is None else tuple(kinds)
    unknown = sorted(set(chosen) - set(KINDS))
    if unknown or not chosen:
        raise ValueError(f"kinds must be among {KINDS}; got {unknown or 'none'}.")
    if num_frames < 2:
        chosen = tuple(kind for kind in chosen if kind not in KINDS_IN_TIME)
        if not chosen:
            raise ValueError(f"{sorted(KINDS_IN_TIME)} must have at least 2 frames to be seen; got 1.")
    return chosen


def _generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator:
    if (seed is None) == (generator is None):
        raise ValueError("Scenes must have a seed or a generator; give exactly one of them.")
    return generator if generator is not None else torch.Generator().manual_seed(int(seed or 0))


def _seed_from(source: torch.Generator) -> int:
    return int(torch.randint(1 << 62, (), generator=source, device=source.device))


def sample_scene(seed: int = 7004, *, num_frames: int = 48, size: int = 256) -> Sample:
    """Draw a clip to try the program on, with queries and their answers; one object is out of sight for a while.

    Parameters
    ----------
    seed
        Which clip.
    num_frames, size
        T, and H = W in pixels.
    """
    scene, queries, meant = plan_sample(seed, num_frames)
    frames, owner = render([scene], size, torch.Generator().manual_seed(seed), clean=True)
    masks = tuple(_mask(owner[0], indices).numpy() for indices in meant)
    return Sample(frames[0].permute(0, 2, 3, 1).contiguous().numpy(), queries, masks, f"moving shapes {seed}")
