"""Learning from corrections: a low-rank adapter of the mask decoder for one object, trained on its corrected frames.

What is trained is the decoding of followed frames and nothing else, so encodings and memories, and with them the
caches, are the same with an adapter and without. The shared weights are read, never written: an adapter is a decoder
of its own, made of references to the shared one's tensors and a few matrices more.

Shape legend: N corrected frames, O I outputs and inputs of a linear layer, R rank, M candidate masks, h w pixels of
low-resolution masks.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_virst.model.readout import ImageFeatures
from napari_virst.records import Learned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_virst.engine.options import LearningRule
    from napari_virst.model.segmenter import Decoded, Segmenter
    from napari_virst.records import Anchor

_JUDGES = ("iou_prediction_head", "pred_obj_score_head")
"""Heads that say how good and how present a mask is: left alone, since a few masks say nothing of either."""


@dataclass(frozen=True)
class Lessons:
    """Corrected frames as the decoder meets them when it follows: conditioned on the other corrections."""

    features: ImageFeatures
    """Of N frames; the coarse map is conditioned on memory already."""
    target_N1hw: Tensor
    """True masks, 0…1."""

    @classmethod
    def of(cls, features: Sequence[ImageFeatures], masks_11SS: Sequence[Tensor]) -> Lessons:
        """Put frames together, as tensors that a gradient may pass through."""
        with torch.inference_mode(False):
            fine, middle, coarse = (torch.cat(maps) for maps in zip(*(f.levels for f in features), strict=True))
            size = (4 * coarse.shape[-2], 4 * coarse.shape[-1])
            target_N1hw = F.adaptive_avg_pool2d(torch.cat(list(masks_11SS)).float(), size)
        return cls(ImageFeatures(fine, middle, coarse), target_N1hw)

    def __len__(self) -> int:
        return len(self.target_N1hw)

    def __getitem__(self, rows: Tensor) -> Lessons:
        return Lessons(self.features[rows], self.target_N1hw[rows])


class AdaptedLinear(nn.Module):
    """A linear layer with a low-rank addition: ``W + up · down``. It refers to the shared tensors, and has no copy."""

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        device, (num_outputs, num_inputs) = linear.weight.device, linear.weight.shape
        down_RI = torch.randn(rank, num_inputs, generator=generator) / math.sqrt(num_inputs)
        self.down_RI = nn.Parameter(down_RI.to(device))
        self.up_OR = nn.Parameter(torch.zeros(num_outputs, rank, device=device))
        self.merged_OI: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer says, with its addition."""
        return F.linear(x, self.weight, self.bias)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs) with the addition."""
        return self._weight() if self.merged_OI is None else self.merged_OI

    @property
    def bias(self) -> Tensor:
        """(outputs,)."""
        return self.linear.bias

    def settle(self) -> None:
        """Add up once, when training is over."""
        with torch.no_grad():
            self.merged_OI = self._weight().detach()

    def _weight(self) -> Tensor:
        return self.linear.weight + (self.up_OR @ self.down_RI).to(self.linear.weight.dtype)


def adapted_copy(decoder: nn.Module, rank: int, seed: int) -> nn.Module:
    """Return a decoder with untrained additions, equal to ``decoder`` and sharing its tensors."""
    shared: dict[int, object] = {id(p): p for p in decoder.parameters()}
    shared |= {id(b): b for b in decoder.buffers()}
    copy = deepcopy(decoder, shared)
    generator = torch.Generator().manual_seed(seed)
    linears = [(name, module) for name, module in copy.named_modules() if isinstance(module, nn.Linear)]
    for name, linear in linears:
        if not name.startswith(_JUDGES):
            parent, _, last = name.rpartition(".")
            setattr(copy.get_submodule(parent), last, AdaptedLinear(linear, rank, generator))
    return copy.eval()


def learn(
    segmenter: Segmenter, lessons: Lessons, rule: LearningRule, should_stop: Callable[[], bool]
) -> tuple[nn.Module | None, Learned] | None:
    """Train a decoder on corrections, if it turns out to help on corrections that it was not trained on.

    Every corrected frame is decoded by a decoder that learned from the others; only where that raises the mean IoU by
    ``rule.min_gain`` is one trained on all of them.

    Returns
    -------
    The decoder, None where learning does not help; and what to say of it. None when told to stop.
    """
    with torch.inference_mode(False), torch.no_grad():
        before = _ious(segmenter, None, lessons)
        after: dict[int, float] = {}
        num_folds = min(len(lessons), rule.max_folds)
        for fold in range(num_folds):
            held_out = [row for row in range(len(lessons)) if row % num_folds == fold]
            rest = [row for row in range(len(lessons)) if row not in held_out]
            decoder = _train(segmenter, lessons[_rows(rest, lessons)], rule, should_stop)
            if decoder is None:
                return None
            after |= dict(zip(held_out, _ious(segmenter, decoder, lessons[_rows(held_out, lessons)]), strict=True))
        iou_before, iou_after = float(np.mean(before)), float(np.mean(list(after.values())))
        helped = iou_after - iou_before >= rule.min_gain
        decoder = _train(segmenter, lessons, rule, should_stop) if helped else None
    if helped and decoder is None:
        return None
    return decoder, Learned(len(lessons), iou_before, iou_after, helped)


def _train(
    segmenter: Segmenter, lessons: Lessons, rule: LearningRule, should_stop: Callable[[], bool]
) -> nn.Module | None:
    decoder = adapted_copy(segmenter.mask_decoder, rule.rank, rule.seed)
    additions = [module for module in decoder.modules() if isinstance(module, AdaptedLinear)]
    factors = [factor for addition in additions for factor in (addition.down_RI, addition.up_OR)]
    optimizer = torch.optim.AdamW(factors, lr=rule.learning_rate, weight_decay=0.0)
    first = segmenter.decode_conditioned(lessons.features)
    for _ in range(rule.num_steps):
        if should_stop():
            return None
        with torch.enable_grad():
            loss = _loss(segmenter.decode_conditioned(lessons.features, decoder), first, lessons.target_N1hw)
            gradients = torch.autograd.grad(loss, factors)
        for factor, gradient in zip(factors, gradients, strict=True):
            factor.grad = gradient
        optimizer.step()
    for addition in additions:
        addition.settle()
    return decoder


def _loss(decoded: Decoded, first: Decoded, target_N1hw: Tensor) -> Tensor:
    """BCE and Dice of the candidate that is chosen; what the heads say of it is held where it was at first."""
    rows, best_N = torch.arange(len(target_N1hw), device=target_N1hw.device), first.iou_BM.argmax(-1)
    logits_N1hw = decoded.candidates_BMhw[rows, best_N][:, None].float()
    probability_N1hw = logits_N1hw.sigmoid()
    overlap_N = (probability_N1hw * target_N1hw).sum((1, 2, 3))
    areas_N = probability_N1hw.sum((1, 2, 3)) + target_N1hw.sum((1, 2, 3))
    dice = (1 - (2 * overlap_N + 1) / (areas_N + 1)).mean()
    bce = F.binary_cross_entropy_with_logits(logits_N1hw, target_N1hw)
    drift = F.mse_loss(decoded.iou_BM.float(), first.iou_BM.float())
    drift = drift + 0.1 * F.mse_loss(decoded.score_B.float(), first.score_B.float())
    return bce + dice + drift


def _ious(segmenter: Segmenter, decoder: nn.Module | None, lessons: Lessons) -> list[float]:
    """IoU, 0…1, of every frame; that of a frame on which the object is taken to be absent is 0."""
    masks_N1hw = segmenter.decode_conditioned(lessons.features, decoder).low_res_B1hw > 0
    target_N1hw = lessons.target_N1hw > 0.5
    union_N = (masks_N1hw | target_N1hw).sum((1, 2, 3)).clamp(min=1)
    ious: list[float] = ((masks_N1hw & target_N1hw).sum((1, 2, 3)) / union_N).tolist()
    return ious


def _rows(rows: list[int], lessons: Lessons) -> Tensor:
    return torch.tensor(rows, device=lessons.target_N1hw.device)


# What was learned ----------------------------------------------------------------------------------------------------


class Adapters:
    """What was learned, or found not to help, from the last sets of corrections; each is learned once.

    An adapter depends on the pixels of the video and on the corrections, and is named by them: the same corrections
    give the same adapter, in whatever track or session.
    """

    def __init__(self, num_kept: int = 16) -> None:
        self._num_kept = num_kept
        self._known: OrderedDict[str, tuple[nn.Module | None, Learned]] = OrderedDict()

    def find(self, key: str) -> tuple[nn.Module | None, Learned] | None:
        """Return what is known under ``key``; None where nothing is."""
        return self._known.get(key)

    def fetch(
        self, key: str, make: Callable[[], tuple[nn.Module | None, Learned] | None]
    ) -> tuple[nn.Module | None, Learned] | None:
        """Return what is known under ``key``, made where nothing is; None where making was stopped."""
        known = self._known.pop(key, None)
        if known is None and (made := make()) is not None:
            known = (made[0], replace(made[1], name=key))
        if known is not None:
            self._known[key] = known
            while len(self._known) > self._num_kept:
                self._known.popitem(last=False)
        return known


def corrections_key(video: str, anchors: Sequence[Anchor]) -> str:
    """Name a video and the user anchors to learn from."""
    digest = hashlib.blake2b(video.encode(), digest_size=16)
    for anchor in anchors:
        digest.update(f" {anchor.frame} {anchor.mask.shape} ".encode())
        digest.update(np.packbits(anchor.mask).tobytes())
    return digest.hexdigest()


def choose_lessons(anchors: Sequence[Anchor], max_lessons: int) -> tuple[Anchor, ...]:
    """Return the corrections that show the object, spread over time where there are more than ``max_lessons``."""
    shown: list[Anchor] = [anchor for anchor in anchors if not anchor.is_absent]
    if len(shown) <= max_lessons:
        return tuple(shown)
    positions: NDArray[np.int_] = np.linspace(0, len(shown) - 1, max_lessons).round().astype(int)
    return tuple(shown[position] for position in positions)
