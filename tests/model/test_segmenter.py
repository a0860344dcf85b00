from __future__ import annotations

import pytest
import torch

from napari_virst.model.memory import ObjectMemory
from napari_virst.model.segmenter import ABSENT_LOGIT, Segmenter
from napari_virst.model.segmenter_config import SegmenterConfig

SIZE = 64


def tiny(readout: str) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig.compact(SIZE)
    config.memory_readout = readout
    sam2 = config.sam2_config
    sam2.memory_encoder_hidden_size = sam2.memory_attention_hidden_size = 128
    sam2.mask_downsampler_embed_dim = sam2.memory_fuser_embed_dim = 128
    sam2.memory_fuser_intermediate_dim = sam2.memory_attention_feed_forward_hidden_size = 64
    sam2.memory_attention_num_layers, sam2.mask_downsampler_total_stride = 1, 8
    return Segmenter(config).eval()


@pytest.fixture(params=["affinity", "attention"])
def segmenter(request):
    return tiny(request.param)


def square(batch: int) -> torch.Tensor:
    mask = torch.zeros(batch, 1, SIZE, SIZE)
    mask[:, :, 16:40, 20:44] = 1
    return mask


def follow(segmenter, pixels, mask):
    memory = ObjectMemory(len(pixels))
    features = [segmenter.encode(p) for p in pixels]
    features = [f.expand(len(mask)) for f in features]
    memory.add_anchor(0, segmenter.remember(features[0], segmenter.decode_given(features[0], mask)))
    answers = []
    for t in range(1, len(pixels)):
        answers.append(segmenter.decode_tracked(features[t], memory.view(t)))
        memory.add_tracked(t, segmenter.remember(features[t], answers[-1]))
    return answers


@torch.no_grad()
def test_masks_have_a_quarter_of_the_stride(segmenter):
    features = segmenter.encode(torch.rand(2, 3, SIZE, SIZE))
    decoded = segmenter.decode_prompted(features, torch.rand(2, 10, 128))
    assert decoded.low_res_B1hw.shape == (2, 1, SIZE // 2, SIZE // 2)
    assert decoded.iou_BM.shape == (2, 3)
    assert decoded.score_B.shape == (2,)


@torch.no_grad()
def test_objects_in_one_batch_do_not_touch_each_other(segmenter):
    pixels = [torch.rand(1, 3, SIZE, SIZE) for _ in range(3)]
    masks = torch.cat([square(1), square(1).roll(12, dims=2)])
    together = follow(segmenter, pixels, masks)
    for index in range(2):
        alone = follow(segmenter, pixels, masks[index : index + 1])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.candidates_BMhw[index], b.candidates_BMhw[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_given_mask_comes_back_and_counts_as_visible(segmenter):
    features = segmenter.encode(torch.rand(1, 3, SIZE, SIZE))
    decoded = segmenter.decode_given(features, square(1))
    assert bool(decoded.visible_B)
    low = torch.nn.functional.interpolate(square(1), size=SIZE // 2, mode="area")
    assert torch.equal(decoded.low_res_B1hw > 0, low > 0.5)


@torch.no_grad()
def test_empty_mask_says_not_here(segmenter):
    features = segmenter.encode(torch.rand(1, 3, SIZE, SIZE))
    decoded = segmenter.decode_given(features, torch.zeros(1, 1, SIZE, SIZE))
    assert not bool(decoded.visible_B)
    assert not (decoded.low_res_B1hw > 0).any()
    entry = segmenter.remember(features, decoded)
    assert torch.isfinite(entry.features).all()


@torch.no_grad()
def test_absent_object_is_overwritten_with_the_absent_logit(segmenter):
    features = segmenter.encode(torch.rand(1, 3, SIZE, SIZE))
    segmenter.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-1e3)
    decoded = segmenter.decode_prompted(features, torch.rand(1, 10, 128))
    assert torch.all(decoded.low_res_B1hw == ABSENT_LOGIT)
    assert not torch.all(decoded.candidates_BMhw == ABSENT_LOGIT)


def test_gradient_reaches_the_image_encoder_through_memory(segmenter):
    segmenter.train()
    pixels = [torch.rand(1, 3, SIZE, SIZE) for _ in range(3)]
    follow(segmenter, pixels, square(1))[-1].candidates_BMhw.square().mean().backward()
    assert segmenter.vision_encoder.backbone.stem[0].weight.grad.abs().sum() > 0
    assert all(torch.isfinite(p.grad).all() for p in segmenter.parameters() if p.grad is not None)


@torch.no_grad()
def test_affinity_readout_accepts_another_input_size():
    segmenter = tiny("affinity")
    features = segmenter.encode(torch.rand(1, 3, 96, 96))
    assert segmenter.decode_given(features, torch.ones(1, 1, 96, 96)).low_res_B1hw.shape[-1] == 48


def test_encoding_without_gradients_is_encoding_with_them(segmenter):
    pixels = torch.randn(2, 3, segmenter.config.image_size, segmenter.config.image_size)
    expected = segmenter.encode(pixels)
    with torch.inference_mode():
        found = segmenter.encode(pixels)
    for one, other in zip(found.levels, expected.levels, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-4, atol=1e-5)
