from __future__ import annotations

import torch

from napari_virst.model.segmenter import Decoded
from napari_virst.training.losses import LossWeights, segmentation_loss


def decoded(candidates, iou=None, score=5.0):
    batch, num = candidates.shape[:2]
    iou = torch.full((batch, num), 0.5) if iou is None else iou
    return Decoded(candidates[:, :1], candidates, iou, torch.full((batch,), score), None)


def test_loss_is_small_for_the_truth_and_large_for_its_opposite():
    target = torch.zeros(2, 16, 16)
    target[:, 4:12, 4:12] = 1
    small = torch.nn.functional.avg_pool2d(target[:, None], 4) * 20 - 10
    right, _ = segmentation_loss(decoded(small.expand(-1, 3, -1, -1)), target, LossWeights())
    wrong, _ = segmentation_loss(decoded(-small.expand(-1, 3, -1, -1)), target, LossWeights())
    assert right < 0.2 < 5 < wrong


def test_one_wrong_candidate_costs_less_than_three():
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    right = torch.nn.functional.avg_pool2d(target[:, None], 4) * 20 - 10
    one, _ = segmentation_loss(decoded(torch.cat([right, right, -right], 1)), target, LossWeights())
    all_, _ = segmentation_loss(decoded(torch.cat([-right, -right, -right], 1)), target, LossWeights())
    assert one < 0.5 * all_


def test_absence_is_learned_by_the_presence_term():
    target = torch.zeros(1, 16, 16)
    empty = torch.full((1, 3, 4, 4), -10.0)
    sure, _ = segmentation_loss(decoded(empty, score=-8.0), target, LossWeights())
    fooled, _ = segmentation_loss(decoded(empty, score=8.0), target, LossWeights())
    assert sure < 0.01 < fooled


def test_published_weights_are_those_of_the_paper():
    weights = LossWeights.published()
    assert (weights.bce, weights.dice, weights.token, weights.iou, weights.presence) == (1, 1, 1, 0.05, 0.05)
    assert weights.alignment == weights.topics == weights.pointing == weights.sentence == weights.focus == 0
