"""Position codes keep apart what lies apart, whatever the weights' dtype; every way of reading memory says the same."""

from __future__ import annotations

import pytest
import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine

from napari_virst.model.readout import AffinityReadout, FloatSine, ImageFeatures, MemoryView
from napari_virst.model.segmenter_config import SegmenterConfig

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


@pytest.fixture
def readout():
    torch.manual_seed(0)
    return AffinityReadout(SegmenterConfig.compact(64)).eval()


def features_of(batch: int, seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((16, 32), (32, 16), (128, 8))
    return ImageFeatures(*(torch.randn(batch, channels, side, side, generator=generator) for channels, side in sizes))


def view_of(readout: AffinityReadout, batch: int) -> MemoryView:
    def entry(seed: int):
        logits = torch.randn(batch, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 5
        return readout.remember(features_of(batch, seed), logits, torch.ones(batch, dtype=torch.bool), None)

    return MemoryView([entry(1), entry(2)], [(entry(3), 2), (entry(4), 1)], [], 15)


@pytest.mark.parametrize("batch", [1, 3])
def test_reading_head_by_head_is_reading_all_heads_at_once(readout, batch):
    features, view = features_of(batch, 0), view_of(readout, batch)
    at_once = readout.read(features, view)
    with torch.inference_mode():
        by_head = readout.read(features, view)
    torch.testing.assert_close(by_head, at_once.detach(), rtol=1e-5, atol=1e-5)


def test_keys_computed_before_are_the_keys(readout):
    features = features_of(2, 0)
    with torch.inference_mode():
        view, prepared = view_of(readout, 2), readout.prepare(features)
        assert torch.equal(readout.read(prepared, view), readout.read(features, view))


def test_changed_weights_change_what_is_read(readout):
    features = features_of(1, 0)
    with torch.no_grad():
        view = view_of(readout, 1)
        before = readout.read(features, view)
        readout.log_locality_2K.add_(2.0)
        assert not torch.allclose(before, readout.read(features, view))
