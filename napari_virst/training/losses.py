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


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The published model uses BCE 1, Dice 1, IoU 0.05 and occlusion 0.05 from trained parts.

    From scratch on a CPU the small terms learn too slowly to choose between candidates, hence the larger values.
    """

    bce: float = 4.0
    dice: float = 1.0
    iou: float = 0.2
    presence: float = 0.3
    alignment: float = 3.0
    """Weight of the training-only pointing task of :class:`~napari_virst.training.steps.Alignment`."""
    best: float = 0.3
    """Share of the best candidate's loss in the mask loss; the rest is the mean over all candidates.

    With the best alone, as SAM trains, candidates turn into proposals for different objects and nothing presses
    language to choose: after 800 steps best-of-three IoU was 0.61 on colour queries and the chosen one's 0.11.
    """


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
    bce_BM = _focal_bce(logits_BMhw, target_Bhw)
    dice_BM = _dice(logits_BMhw, target_Bhw) * present_B[:, None]
    mask_BM = weights.bce * bce_BM + weights.dice * dice_BM
    mask = weights.best * mask_BM.amin(1).mean() + (1 - weights.best) * mask_BM.mean()
    iou = _iou_loss(decoded.iou_BM.float(), logits_BMhw, target_Bhw, present_B)
    presence = F.binary_cross_entropy_with_logits(decoded.score_B.float(), present_B)
    total = mask + weights.iou * iou + weights.presence * presence
    return total, {"mask": mask.item(), "iou": iou.item(), "presence": presence.item()}


def _focal_bce(logits_BMhw: Tensor, target_Bhw: Tensor) -> Tensor:
    target_BMhw = target_Bhw[:, None].expand_as(logits_BMhw)
    bce_BMhw = F.binary_cross_entropy_with_logits(logits_BMhw, target_BMhw, reduction="none")
    hard_BMhw = 1 - torch.exp(-bce_BMhw.detach())
    return (bce_BMhw * (1 + 2 * hard_BMhw)).mean((2, 3))


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
