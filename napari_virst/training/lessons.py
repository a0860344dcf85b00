"""What one step learns from, and where it comes from.

Shape legend: B clips or scenes, X queries, T frames, S side of the square input, O objects, K topics,
A atoms of meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from napari_virst.training.mask_prompts import GivenMasks, MaskPrompts, cut_away, draw_given
from napari_virst.training.scene_lessons import asked_scenes
from napari_virst.training.scenes import follow_scenes, language_scenes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.training.scene_lessons import AskedScenes
    from napari_virst.training.scenes import SceneBatch

ClipStyle = Literal["window", "whole"]
"""Seen by a window that goes with the object, or as a whole scene."""


@dataclass(frozen=True)
class AskedLesson:
    """Clips with several queries each, ready for the model."""

    pixels_BT3SS: Tensor
    """Normalised frames, float32."""
    owners_BTSS: Tensor
    """Which object each pixel belongs to, uint8."""
    facts_BOK: Tensor
    """Classes of the objects, int64; -1 where nothing is known."""
    masks_XTSS: Tensor
    """True masks of the queries, float 0 or 1."""
    queries: tuple[str, ...]
    scene_of_X: Tensor
    """The clip of each query, int64."""
    atoms_XA: Tensor
    """What each query says, float 0 or 1 in the order of ``scene_lessons.ATOMS``; -1 where that is not known."""


@dataclass(frozen=True)
class FollowLesson:
    """Clips with masks to follow, ready for the model."""

    pixels_BT3SS: Tensor
    """Normalised frames, float32."""
    masks_BTSS: Tensor
    """True masks, float 0 or 1."""
    given: GivenMasks
    """What a person gives."""


class LessonSource(Protocol):
    """Where clips come from: procedural scenes, benchmarks, or a person's own corrections."""

    def asked(
        self,
        num_scenes: int,
        num_queries: int,
        num_frames: int,
        size: int,
        generator: torch.Generator,
        kinds: Sequence[str],
    ) -> AskedScenes:
        """Draw clips with up to ``num_queries`` queries each; ``generator`` (on the CPU) decides everything."""
        ...

    def clips(
        self, num_clips: int, num_frames: int, size: int, generator: torch.Generator, style: ClipStyle
    ) -> SceneBatch:
        """Draw clips of one object each, seen on the first frame; ``generator`` (on the CPU) decides everything."""
        ...


class SceneLessons:
    """Endless procedural scenes.

    Parameters
    ----------
    device
        Where they are drawn.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def asked(
        self,
        num_scenes: int,
        num_queries: int,
        num_frames: int,
        size: int,
        generator: torch.Generator,
        kinds: Sequence[str],
    ) -> AskedScenes:
        """Draw scenes; see :func:`~napari_virst.training.scene_lessons.asked_scenes`."""
        return asked_scenes(num_scenes, num_queries, num_frames, size, self._here(generator), kinds)

    def clips(
        self, num_clips: int, num_frames: int, size: int, generator: torch.Generator, style: ClipStyle
    ) -> SceneBatch:
        """Draw cut-outs seen by a window, or the target of a query in a whole scene."""
        make = follow_scenes if style == "window" else language_scenes
        return make(num_clips, num_frames, size, generator=generator, device=self.device)

    def _here(self, generator: torch.Generator) -> torch.Generator:
        if self.device.type == "cpu":
            return generator
        return torch.Generator(self.device).manual_seed(int(torch.randint(1 << 62, (), generator=generator)))


class MixedLessons:
    """Two sources in turn, by chance.

    Parameters
    ----------
    first, second
        Where lessons come from.
    share
        Of the first, 0…1.
    """

    def __init__(self, first: LessonSource, second: LessonSource, share: float) -> None:
        self.first, self.second, self.share = first, second, share

    def asked(
        self,
        num_scenes: int,
        num_queries: int,
        num_frames: int,
        size: int,
        generator: torch.Generator,
        kinds: Sequence[str],
    ) -> AskedScenes:
        """Draw from one of them."""
        return self._pick(generator).asked(num_scenes, num_queries, num_frames, size, generator, kinds)

    def clips(
        self, num_clips: int, num_frames: int, size: int, generator: torch.Generator, style: ClipStyle
    ) -> SceneBatch:
        """Draw from one of them."""
        return self._pick(generator).clips(num_clips, num_frames, size, generator, style)

    def _pick(self, generator: torch.Generator) -> LessonSource:
        return self.first if float(torch.rand((), generator=generator)) < self.share else self.second


def prepare_asked(scenes: AskedScenes, processor: VirstProcessor, device: torch.device | str = "cpu") -> AskedLesson:
    """Normalise the frames of asked scenes and bring everything to ``device``."""
    return AskedLesson(
        processor.normalise(scenes.frames.to(device).float() / 255),
        scenes.owners.to(device),
        scenes.facts.to(device),
        scenes.masks.to(device).float(),
        scenes.queries,
        scenes.scene_of.to(device),
        scenes.atoms.to(device),
    )


def prepare_follow(
    batch: SceneBatch,
    processor: VirstProcessor,
    prompts: MaskPrompts,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> FollowLesson:
    """Normalise the frames of clips, bring them to ``device``, and draw what a person gives of their masks."""
    pixels_BT3SS = processor.normalise(batch.frames.to(device).float() / 255)
    pixels_BT3SS, masks_BTSS = cut_away(pixels_BT3SS, batch.masks.to(device).float(), prompts.cut, generator)
    return FollowLesson(pixels_BT3SS, masks_BTSS, draw_given(masks_BTSS, prompts, generator))
