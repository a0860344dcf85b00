"""The short way through the mask decoder says what transformers' own code says."""

from __future__ import annotations

import pytest
import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMaskDecoder

from napari_virst.engine.adapting import AdaptedLinear, adapted_copy
from napari_virst.model.mask_decoder import MaskDecoder
from napari_virst.model.segmenter_config import SegmenterConfig


@pytest.fixture(scope="module")
def decoder():
    config = SegmenterConfig.compact(64).sam2_config.mask_decoder_config
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    decoder = MaskDecoder(config).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(std=0.1)
    return decoder


def given(batch: int, cells: int = 8, channels: int = 128) -> dict[str, object]:
    generator = torch.Generator().manual_seed(batch)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "image_embeddings": draw(batch, channels, cells, cells),
        "image_positional_embeddings": draw(1, channels, cells, cells).expand(batch, -1, -1, -1),
        "sparse_prompt_embeddings": draw(batch, 1, 2, channels),
        "dense_prompt_embeddings": draw(batch, channels, cells, cells),
        "high_resolution_features": [
            draw(batch, channels // 8, 4 * cells, 4 * cells),
            draw(batch, channels // 4, 2 * cells, 2 * cells),
        ],
    }


def both_ways(decoder, inputs, *, multimask: bool = True):
    with torch.inference_mode():
        ours = decoder(**inputs, multimask_output=multimask)
        return ours, Sam2VideoMaskDecoder.forward(decoder, **inputs, multimask_output=multimask)


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("multimask", [True, False], ids=["candidates", "single-mask"])
def test_answers_are_transformers_own(decoder, batch, multimask):
    assert_close(*both_ways(decoder, given(batch), multimask=multimask))


def test_maps_with_channels_last_give_the_same(decoder):
    inputs = given(2)
    maps = ("image_embeddings", "dense_prompt_embeddings")
    last = inputs | {name: inputs[name].contiguous(memory_format=torch.channels_last) for name in maps}
    with torch.inference_mode():
        assert_close(decoder(**inputs, multimask_output=True), decoder(**last, multimask_output=True))


def test_another_position_code_is_not_mistaken_for_the_last_one(decoder):
    both_ways(decoder, given(1))
    inputs = given(1) | {"image_positional_embeddings": torch.ones(1, 128, 8, 8)}
    assert_close(*both_ways(decoder, inputs))


def test_decoder_that_learned_takes_the_same_way(decoder):
    learned = adapted_copy(decoder, rank=2, seed=0)
    with torch.no_grad():
        for module in learned.modules():
            if isinstance(module, AdaptedLinear):
                module.up_OR.normal_(std=0.1)
                module.settle()
    ours, theirs = both_ways(learned, given(2))
    assert_close(ours, theirs)
    assert not torch.allclose(ours[0], both_ways(decoder, given(2))[0][0], atol=1e-2)


def test_gradients_flow_as_before(decoder):
    masks, *_ = decoder(**given(1), multimask_output=True)
    masks.sum().backward()
    assert decoder.mask_tokens.weight.grad is not None
    decoder.zero_grad()
