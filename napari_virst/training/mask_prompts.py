"""Masks as a person would give them: whole, in part, beside the object, and again on later frames.

Shape legend: B clips, T frames, S side of the square input, G given frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MaskPrompts:
    """How often the masks given in following lessons are less than perfect, and how often a person corrects.

    The shares are small: plain following, from one perfect mask on, stays the most frequent lesson.
    """

    partial: float = 0.1
    """Share of first masks that cover only a part of the object."""
    shifted: float = 0.1
    """Share of first masks that lie beside the object by up to a quarter of its size."""
    later: float = 0.2
    """Share of lessons in which one or two later frames are given too, with their true masks; where the object is out
    of sight these are empty and say "absent here"."""
    cut: float = 0.05
    """Share of clips that go over into another one, so that the object is gone."""

    def __post_init__(self) -> None:
        shares = (self.partial, self.shifted, self.later, self.cut)
        if min(shares) < 0 or max(shares) > 1 or self.partial + self.shifted > 1:
            raise ValueError(f"The shares of mask prompts must be in 0…1, and together at most 1; got {self}.")


PERFECT = MaskPrompts(0.0, 0.0, 0.0, 0.0)
"""The true mask of the first frame and nothing else."""


@dataclass(frozen=True)
class GivenMasks:
    """User anchors of a batch of clips."""

    frames: tuple[int, ...]
    """G frame numbers in order; the first is 0."""
    masks_BGSS: Tensor
    """Float 0 or 1; an empty one says "absent here"."""


def cut_away(
    pixels_BT3SS: Tensor, masks_BTSS: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Let a share of the clips go over into their neighbour in the batch; the object is gone from there on."""
    batch, num_frames = masks_BTSS.shape[:2]
    is_cut_B = torch.rand(batch, generator=generator) < share
    start_B = torch.randint(1, max(2, num_frames), (batch,), generator=generator)
    is_gone_BT = is_cut_B[:, None] & (torch.arange(num_frames) >= start_B[:, None])
    if batch < 2 or not bool(is_gone_BT.any()):
        return pixels_BT3SS, masks_BTSS
    gone = is_gone_BT.to(masks_BTSS.device)[:, :, None, None]
    return torch.where(gone[:, :, None], pixels_BT3SS.roll(1, 0), pixels_BT3SS), masks_BTSS.masked_fill(gone, 0.0)


def draw_given(masks_BTSS: Tensor, prompts: MaskPrompts, generator: torch.Generator) -> GivenMasks:
    """Choose which frames are given, and spoil some of the first masks.

    Parameters
    ----------
    masks_BTSS
        True masks, float 0 or 1.
    prompts
        How often what happens.
    generator
        On the CPU; decides everything.
    """
    frames = (0, *_later_frames(masks_BTSS.shape[1], prompts.later, generator))
    given_BGSS = masks_BTSS[:, list(frames)].clone()
    fate_B = torch.rand(len(given_BGSS), generator=generator)
    for row, fate in enumerate(fate_B.tolist()):
        if fate < prompts.partial:
            given_BGSS[row, 0] = _part_of(given_BGSS[row, 0], generator)
        elif fate < prompts.partial + prompts.shifted:
            given_BGSS[row, 0] = _beside(given_BGSS[row, 0], generator)
    return GivenMasks(frames, given_BGSS)


def _later_frames(num_frames: int, share: float, generator: torch.Generator) -> list[int]:
    """One or two frames after the first, so that at least one is left to be followed."""
    chance, more = torch.rand(2, generator=generator).tolist()
    most = min(2, num_frames - 2)
    if most < 1 or chance >= share:
        return []
    num = 1 + int(most > 1 and more < 0.3)
    return sorted((1 + torch.randperm(num_frames - 1, generator=generator)[:num]).tolist())


def _part_of(mask_SS: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a mask along a line that leaves 50 to 85 % of it."""
    angle, kept = torch.rand(2, generator=generator).tolist()
    direction = torch.tensor([torch.pi * 2 * angle]).to(mask_SS)
    yx_P2 = mask_SS.nonzero().to(mask_SS)
    if not len(yx_P2):
        return mask_SS
    along_P = yx_P2 @ torch.stack([direction.sin(), direction.cos()])[:, 0]
    limit = along_P.sort().values[int((len(along_P) - 1) * (0.5 + 0.35 * kept))]
    part_SS = torch.zeros_like(mask_SS)
    part_SS[tuple(yx_P2[along_P <= limit].long().T)] = 1.0
    return part_SS


def _beside(mask_SS: Tensor, generator: torch.Generator) -> Tensor:
    """Move a mask by up to a quarter of the side of a square of its area; what leaves the picture is lost."""
    side = mask_SS.shape[-1]
    reach = 0.25 * float(mask_SS.sum()) ** 0.5
    shift_2 = ((2 * torch.rand(2, generator=generator) - 1) * reach).round().long().to(mask_SS.device)
    yx_P2 = mask_SS.nonzero() + shift_2
    yx_P2 = yx_P2[((yx_P2 >= 0) & (yx_P2 < side)).all(1)]
    moved_SS = torch.zeros_like(mask_SS)
    moved_SS[tuple(yx_P2.T)] = 1.0
    return moved_SS
