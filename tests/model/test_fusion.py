from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_virst.errors import InputError
from napari_virst.model.config import FusionConfig
from napari_virst.model.fusion import (
    BlindPrompter,
    InitialFusion,
    Pointer,
    PresenceReader,
    Prompter,
    RotaryCrossAttention,
    build_prompter,
    rotary_angles,
    rotary_split,
    rotate_pairs,
)

WIDTH, CHANNELS = 12, 24


def config_with(**options) -> FusionConfig:
    return FusionConfig(
        **{"num_st_tokens": 3, "num_downsamples": 2, "num_prompter_heads": 2, "num_initial_heads": 2, **options}
    )


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(2, 4, CHANNELS, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def prompter() -> Prompter:
    torch.manual_seed(2)
    return Prompter(config_with(), WIDTH, CHANNELS).eval()


def initial_fusion(**options) -> InitialFusion:
    torch.manual_seed(3)
    return InitialFusion(config_with(**options), WIDTH, CHANNELS).eval()


def test_a_prompt_per_token_and_frame_on_maps_that_are_not_square(prompter, states, maps):
    prompts, scores = prompter(states, maps)
    assert prompts.shape == (2, 3, 4, CHANNELS)
    assert scores.shape == (2, 4)


def test_frame_scores_share_out_all_attention(prompter, states, maps):
    cells_per_frame = 2 * 3
    _, scores = prompter(states, maps)
    assert (scores >= 0).all()
    torch.testing.assert_close(scores.sum(1) * cells_per_frame, torch.ones(2))


def test_videos_of_a_batch_do_not_see_each_other(prompter, states, maps):
    together = prompter(states, maps)
    for i in range(2):
        alone = prompter(states[i : i + 1], maps[i : i + 1])
        torch.testing.assert_close(together[0][i], alone[0][0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together[1][i], alone[1][0], rtol=0, atol=1e-6)


def test_prompts_depend_on_the_order_of_frames(prompter, states, maps):
    forwards, _ = prompter(states, maps)
    backwards, _ = prompter(states, maps.flip(1))
    assert not torch.allclose(forwards, backwards.flip(2), atol=1e-3)


def test_permuting_st_tokens_permutes_their_prompts(prompter, states, maps):
    order = [2, 0, 1]
    prompts, scores = prompter(states, maps)
    permuted, permuted_scores = prompter(states[:, order], maps)
    torch.testing.assert_close(permuted, prompts[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(permuted_scores, scores, rtol=0, atol=1e-6)


def test_gradients_reach_every_parameter_from_scratch(prompter, states, maps):
    fusion = initial_fusion(initial_gate=1.0)
    prompts, scores = prompter(fusion(states, maps), maps)
    (prompts[..., 0].square().sum() + scores[:, 0].sum()).backward()
    for name, parameter in [*prompter.named_parameters(), *fusion.named_parameters()]:
        # Softmax does not change when all scores of a query do, so key biases without rotation get none.
        if name.endswith("in_proj_bias"):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_closed_gate_leaves_embeddings_untouched_and_can_open(states, maps):
    fusion = initial_fusion()
    fused = fusion(states, maps)
    assert torch.equal(fused, states)
    fused.square().sum().backward()
    assert fusion.gate.grad.abs() > 0


def test_an_open_gate_lets_every_st_token_see_the_video(states, maps):
    fusion = initial_fusion(initial_gate=1.0)
    changed = maps.clone()
    changed[:, 2] += 1
    assert ((fusion(states, maps) - fusion(states, changed)).abs().amax(-1) > 1e-4).all()


def test_modules_are_named_as_in_the_published_checkpoint(prompter):
    # Names of the three convolutions and of the norm are fixed by files that exist.
    names = set(Prompter(FusionConfig(), WIDTH, 32).state_dict())
    assert {"spatial_down.0.weight", "spatial_down.2.weight", "spatial_down.4.weight", "memory_norm.bias"} <= names
    assert {"decoder.1.cross_attn.o_proj.weight", "decoder.0.ff.2.bias", "decoder.0.self_attn.in_proj_weight"} <= names
    assert not [name for name in prompter.state_dict() if "spatial_down.4" in name]


@pytest.mark.parametrize(
    ("head_size", "split"), [(32, (10, 10, 10, 2)), (16, (4, 4, 4, 4)), (64, (20, 20, 20, 4)), (4, (0, 0, 0, 4))]
)
def test_rotary_split_gives_each_axis_the_most_even_share(head_size, split):
    assert rotary_split(head_size) == split


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 20), st.sampled_from([6, 16, 32]))
def test_rotated_products_depend_on_the_distance_alone(first, second, shift, head_size):
    generator = torch.Generator().manual_seed(first * 51 + second)
    q, k = torch.randn(2, 1, 1, 1, head_size, generator=generator).double()

    def product(q_place: int, k_place: int) -> float:
        places = (torch.tensor([[place, place + 3, place + 5]]) for place in (q_place, k_place))
        q_angles, k_angles = (rotary_angles(place, head_size).double() for place in places)
        return float((rotate_pairs(q, q_angles) * rotate_pairs(k, k_angles)).sum())

    # float32 angles of up to 76 radians are known to 4e-6.
    assert product(first, second) == pytest.approx(product(first + shift, second + shift), abs=1e-3)


def test_free_channels_and_axes_left_out_do_not_turn():
    x = torch.randn(1, 1, 2, 32)
    turned = rotate_pairs(x, rotary_angles(torch.tensor([[3], [7]]), 32))
    assert torch.equal(turned[..., 10:], x[..., 10:])
    assert not torch.allclose(turned[..., :10], x[..., :10])


def test_heads_of_odd_size_are_refused():
    with pytest.raises(InputError, match="heads of even size; got 8"):
        RotaryCrossAttention(24, 8)


@pytest.mark.parametrize("second_fusion", ["mlp", "none"])
def test_without_a_second_fusion_prompts_depend_on_the_tokens_alone(second_fusion, states, maps):
    prompter = build_prompter(config_with(second_fusion=second_fusion), WIDTH, CHANNELS)
    assert isinstance(prompter, BlindPrompter)
    prompts, scores = prompter(states, maps)
    other_prompts, _ = prompter(states, maps + 1)
    assert prompts.shape == (2, 3, 4, CHANNELS)
    assert torch.equal(prompts, other_prompts)
    assert torch.equal(prompts, prompts[:, :, :1].expand_as(prompts)), "frames differ"
    assert len(scores.unique()) == 1
    assert not torch.equal(prompts[0], prompts[1])


def test_second_fusion_is_attention_unless_told_otherwise():
    assert isinstance(build_prompter(config_with(), WIDTH, CHANNELS), Prompter)
    with pytest.raises(InputError, match="second_fusion"):
        config_with(second_fusion="magic")


def test_pointer_brings_what_the_meant_token_holds_and_nothing_at_first():
    torch.manual_seed(0)
    pointer = Pointer(8)
    hidden_BSD, visual_BVD = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    pointed_BSD, logits_BV = pointer(hidden_BSD, visual_BVD)
    assert torch.equal(pointed_BSD, hidden_BSD)

    torch.nn.init.eye_(pointer.value.weight)
    pointer.sharpness.data.fill_(8.0)  # so sharp that one token has all the attention
    read_BSD = pointer(hidden_BSD, visual_BVD)[0] - hidden_BSD
    meant_BD = visual_BVD[torch.arange(2), logits_BV.argmax(1)]
    torch.testing.assert_close(read_BSD, meant_BD[:, None].expand_as(read_BSD))


def test_published_fusion_has_no_pointer():
    assert not FusionConfig().has_pointer


def test_presence_reader_sees_words_and_the_surest_token():
    torch.manual_seed(0)
    reader = PresenceReader(8)
    hidden_BSD, pointed_BV = torch.randn(3, 4, 8), torch.randn(3, 6)
    said_B = reader(hidden_BSD, pointed_BV)
    assert said_B.shape == (3,)
    assert not torch.allclose(said_B, reader(hidden_BSD + 1, pointed_BV))
    assert not torch.allclose(said_B, reader(hidden_BSD, pointed_BV + 1))
    torch.testing.assert_close(said_B, reader(hidden_BSD, pointed_BV.flip(1)))


def test_published_fusion_has_no_presence_reader():
    assert not FusionConfig().has_presence_reader
