"""What the loop minimises.

Shape legend: B objects or frames, M candidate masks, h w pixels of low-resolution masks, H W pixels of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from napari_virst.model.segmenter import Decoded

TERMS = (
    *("mask", "iou", "presence", "token", "alignment", "topics", "video_topics", "pointing", "path", "sentence"),
    "there",
)
"""What a loss can consist of, as the log names it."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; as they stand, for training from scratch on a CPU.

    There the published small terms learn too slowly to choose between candidates, hence the larger values. A term of
    weight 0 is not computed.
    """

    bce: float = 4.0
    dice: float = 1.0
    iou: float = 0.2
    presence: float = 0.3
    """Weight of saying whether the object can be seen; the paper's occlusion loss."""
    token: float = 0.0
    """Weight of next-token prediction on the answer."""
    alignment: float = 3.0
    """Weight of the training-only pointing task of :class:`~napari_virst.training.auxiliary.Alignment`."""
    topics: float = 0.5
    """Weight of reading facts off single cells and tokens (``auxiliary.TopicReader``)."""
    sentence: float = 0.2
    """Weight of ``auxiliary.SentenceReader``."""
    pointing: float = 1.0
    """Weight of ``auxiliary.pointing_loss``, where the model has a pointer."""
    path: float = 3.0
    """Weight of ``auxiliary.PathReader``."""
    there: float = 0.5
    """Weight of ``auxiliary.there_loss``, where the model has a presence reader."""
    best: float = 0.3
    """Share of the best candidate's loss in the mask loss; the rest is the mean over all candidates.

    With the best alone, as SAM trains, candidates turn into proposals for different objects and nothing presses
    language to choose: after 800 steps best-of-three IoU was 0.61 on colour queries and the chosen one's 0.11.
    """
    focus: float = 2.0
    """How much more a pixel counts that is still wrong; 0 is plain cross-entropy."""

    @classmethod
    def published(cls) -> LossWeights:
        """Return the paper's: BCE 1, Dice 1, token 1, IoU 0.05, occlusion 0.05, and nothing else."""
        return cls(
            bce=1.0,
            dice=1.0,
            iou=0.05,
            presence=0.05,
            token=1.0,
            alignment=0.0,
            topics=0.0,
            pointing=0.0,
            path=0.0,
            sentence=0.0,
            there=0.0,
            best=1.0,
            focus=0.0,
        )


def segmentation_loss(decoded: Decoded, target_BHW: Tensor, weights: LossWeights) -> tuple[Tensor, dict[str, float]]:
    """Score the candidates of a decoder against true masks.

    Parameters
    ----------
    decoded
        The decoder's answer for B frames.
    target_BHW
        True masks, float 0…1, at the input's size; all zero where the object cannot be seen.
    weights
        Weights of the terms.

    Returns
    -------
    The scalar loss, and its terms as plain numbers for the log.
    """
    logits_BMhw = decoded.candidates_BMhw.float()
    factor = target_BHW.shape[-1] // logits_BMhw.shape[-1]
    target_Bhw = F.avg_pool2d(target_BHW[:, None], factor)[:, 0]
    present_B = (target_BHW.flatten(1).sum(1) > 0).float()
    bce_BM = _bce(logits_BMhw, target_Bhw, weights.focus)
    dice_BM = _dice(logits_BMhw, target_Bhw) * present_B[:, None]
    mask_BM = weights.bce * bce_BM + weights.dice * dice_BM
    mask = weights.best * mask_BM.amin(1).mean() + (1 - weights.best) * mask_BM.mean()
    iou = _iou_loss(decoded.iou_BM.float(), logits_BMhw, target_Bhw, present_B)
    presence = F.binary_cross_entropy_with_logits(decoded.score_B.float(), present_B)
    total = mask + weights.iou * iou + weights.presence * presence
    return total, {"mask": mask.item(), "iou": iou.item(), "presence": presence.item()}


def _bce(logits_BMhw: Tensor, target_Bhw: Tensor, focus: float) -> Tensor:
    target_BMhw = target_Bhw[:, None].expand_as(logits_BMhw)
    bce_BMhw = F.binary_cross_entropy_with_logits(logits_BMhw, target_BMhw, reduction="none")
    hard_BMhw = 1 - torch.exp(-bce_BMhw.detach())
    return (bce_BMhw * (1 + focus * hard_BMhw)).mean((2, 3))


def _dice(logits_BMhw: Tensor, target_Bhw: Tensor) -> Tensor:
    probability_BMhw = logits_BMhw.sigmoid()
    target_B1hw = target_Bhw[:, None]
    overlap_BM = (probability_BMhw * target_B1hw).sum((2, 3))
    return 1 - (2 * overlap_BM + 1) / (probability_BMhw.sum((2, 3)) + target_B1hw.sum((2, 3)) + 1)


def _iou_loss(iou_BM: Tensor, logits_BMhw: Tensor, target_Bhw: Tensor, present_B: Tensor) -> Tensor:
    with torch.no_grad():
        predicted = logits_BMhw > 0
        target = target_Bhw[:, None] > 0.5
        union_BM = (predicted | target).sum((2, 3)).clamp(min=1)
        true_iou_BM = (predicted & target).sum((2, 3)) / union_BM
    return (((iou_BM - true_iou_BM) ** 2).mean(1) * present_B).sum() / present_B.sum().clamp(min=1)
