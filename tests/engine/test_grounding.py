"""Two voices on whether the video shows what is asked for, and what comes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_virst.engine.grounding import GroundedFrame, _agreed
from napari_virst.model.virst import Grounding

NOTHING = torch.zeros(1, 1, 1, 1)


def answers(scores) -> list[GroundedFrame]:
    mask = np.ones((2, 2), bool)
    return [GroundedFrame(t, mask, 1 / (1 + np.exp(-score)), 0.9) for t, score in enumerate(scores)]


def agreed(scores, present: float | None) -> list[float]:
    said = None if present is None else torch.tensor([present])
    grounding = Grounding(NOTHING, NOTHING, NOTHING, NOTHING, present_B=said)
    return [answer.presence for answer in _agreed(answers(scores), scores, grounding)]


def test_without_a_reader_every_frame_speaks_for_itself():
    assert agreed([2.0, -1.0], None) == pytest.approx([0.881, 0.269], abs=1e-3)


def test_language_that_is_sure_changes_nothing():
    assert agreed([2.0, -1.0], 6.0) == pytest.approx([0.881, 0.269], abs=1e-3)


def test_language_that_doubts_the_surest_frame_silences_all():
    assert max(agreed([2.0, -1.0, 1.0], -3.0)) < 0.5


def test_the_surest_frame_outweighs_a_small_doubt():
    assert max(agreed([4.0, -1.0], -3.0)) > 0.5
