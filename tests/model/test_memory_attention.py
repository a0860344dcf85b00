from __future__ import annotations

import pytest
import torch
from transformers import Sam2VideoConfig
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention

from napari_virst.model.memory_attention import MemoryAttention

CELLS, CHANNELS, MEMORY = 6, 256, 64
# float32 sums of 256 products of values about 1, in another order.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def pair():
    """Ours and transformers' with the same random weights."""
    config = Sam2VideoConfig(
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128,
        memory_attention_rope_feat_sizes=[CELLS, CELLS],
        rope_parameters={"rope_type": "axial", "rope_theta": 10000.0},
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    theirs = Sam2VideoMemoryAttention(config).eval()
    ours = MemoryAttention(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def given(num_objects, num_remembered, num_pointer_tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    num_tokens = num_remembered * CELLS**2 + num_pointer_tokens
    sizes = [(CELLS**2, num_objects, CHANNELS), (num_tokens, num_objects, MEMORY)] * 2
    features, memory, position, code = (torch.randn(size, generator=generator) for size in sizes)
    return features, memory, position, code, num_pointer_tokens


@pytest.mark.parametrize(
    ("num_objects", "num_remembered", "num_pointer_tokens"),
    [(1, 1, 0), (1, 7, 12), (4, 3, 8), (3, 2, 0), (2, 0, 4)],
    ids=["first frame", "full memory", "four objects", "without pointers", "pointers alone"],
)
def test_map_is_the_one_of_the_inherited_code(pair, num_objects, num_remembered, num_pointer_tokens):
    ours, theirs = pair
    inputs = given(num_objects, num_remembered, num_pointer_tokens)
    with torch.no_grad():
        torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=0, atol=TOLERANCE)


def test_objects_do_not_touch_each_other(pair):
    ours, _ = pair
    features, memory, position, code, num = given(3, 2, 4)
    with torch.no_grad():
        together = ours(features, memory, position, code, num)
        alone = ours(features[:, 1:2], memory[:, 1:2], position[:, 1:2], code[:, 1:2], num)
    torch.testing.assert_close(together[:, 1:2], alone, rtol=0, atol=0)


def test_inputs_are_left_as_they_were(pair):
    ours, _ = pair
    inputs = given(2, 2, 4)
    before = [tensor.clone() for tensor in inputs[:4]]
    with torch.no_grad():
        ours(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs[:4], before, strict=True))


def test_gradients_reach_every_weight(pair):
    ours, _ = pair
    ours(*given(2, 2, 4)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())
    ours.zero_grad()


def test_half_precision_takes_the_inherited_path(pair):
    ours, theirs = pair
    inputs = [x.bfloat16() if isinstance(x, torch.Tensor) else x for x in given(2, 2, 4)]
    with torch.no_grad():
        found, expected = (module.bfloat16()(*inputs) for module in (ours, theirs))
    ours.float(), theirs.float()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
