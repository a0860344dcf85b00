"""Position codes of memory keep apart what lies apart, whatever the weights' dtype."""

from __future__ import annotations

import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine

from napari_virst.model.readout import FloatSine

SHAPE = torch.Size((1, 64, 64, 64))


def test_sine_in_half_precision_is_the_rounded_float32_code():
    sine = FloatSine(32, normalize=True)
    full, half = (sine(SHAPE, torch.device("cpu"), dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, full.bfloat16())
    library = Sam2VideoPositionEmbeddingSine(32, normalize=True)(SHAPE, "cpu", torch.bfloat16)
    assert (half.float() - full).abs().max() < 0.005 < (library.float() - full).abs().max()


def test_sine_in_full_precision_is_the_librarys():
    found, expected = (
        kind(32, normalize=True)(SHAPE, torch.device("cpu"), torch.float32)
        for kind in (FloatSine, Sam2VideoPositionEmbeddingSine)
    )
    assert torch.equal(found, expected)
