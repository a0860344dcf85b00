from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_virst.errors import InputError
from napari_virst.model.config import VideoTowerConfig
from napari_virst.model.video_tower import MotionCue, Projector, VideoTower, merge_tokens, position_table


@pytest.fixture
def config() -> VideoTowerConfig:
    return VideoTowerConfig(
        image_size=32,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_frames_per_clip=2,
        position_grid=3,
        num_tokens_per_clip=5,
    )


@pytest.fixture
def tower(config) -> VideoTower:
    torch.manual_seed(0)
    return VideoTower(config).eval()


def random_clips(config, num_clips: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (num_clips, config.num_frames_per_clip, 3, config.image_size, config.image_size)
    return torch.randn(shape, generator=generator)


def test_one_token_per_patch_and_frame(tower, config):
    assert tower(random_clips(config)).shape == (3, 2 * 4 * 4, 24)


def test_clips_of_a_batch_do_not_see_each_other(tower, config):
    clips = random_clips(config)
    together = tower(clips)
    alone = torch.cat([tower(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)  # kernels sum in another order per batch size


def test_frames_of_a_clip_see_each_other(tower, config):
    clips = random_clips(config, 1)
    changed = clips.clone()
    changed[:, 1] += 1
    first_frame = slice(0, 16)
    assert not torch.allclose(tower(clips)[:, first_frame], tower(changed)[:, first_frame], atol=1e-3)


def test_tokens_are_frame_major_then_row_major(tower, config):
    clips = random_clips(config, 1)
    changed = clips.clone()
    changed[0, 1, :, 16:24, 8:16] += 1  # frame 1, row 2, column 1 of the patch grid
    difference = (tower.embed(clips) - tower.embed(changed)).abs().amax(-1)[0]
    assert difference.nonzero().tolist() == [[16 + 2 * 4 + 1]]


def test_gradients_reach_every_parameter(tower, config):
    projector = Projector(config, 16)
    projector(tower(random_clips(config))).square().sum().backward()
    for name, parameter in [*tower.named_parameters(), *projector.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_positions_are_not_saved_and_survive_a_model_built_without_data(tower, config):
    assert not [name for name in tower.state_dict() if "position" in name]
    with torch.device("meta"):
        empty = VideoTower(config)
    assert torch.equal(empty.positions_NC, tower.positions_NC)
    restored = empty.to_empty(device="cpu")
    restored.load_state_dict(tower.state_dict())
    clips = random_clips(config)
    assert torch.equal(restored.eval()(clips), tower(clips))


def test_position_table_is_the_bare_sinusoid_when_grids_agree():
    config = VideoTowerConfig(image_size=24, patch_size=8, hidden_size=8, num_frames_per_clip=2, position_grid=3)
    table = position_table(config)
    assert table.shape == (2 * 9, 8)
    assert table.dtype == torch.float32
    assert torch.equal(table[0], torch.tensor([0.0, 1.0] * 4))


def test_image_size_must_hold_whole_patches():
    with pytest.raises(InputError, match="multiple of patch_size=16; got 100"):
        VideoTowerConfig(image_size=100)


sizes = st.tuples(
    st.integers(1, 3), st.integers(1, 41), st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 99)
)


def random_tokens(batch: int, num: int, seed: int) -> torch.Tensor:
    return torch.randn(batch, num, 8, generator=torch.Generator().manual_seed(seed))


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_merging_keeps_the_sum_of_all_tokens(case):
    batch, num, target, heads, seed = case
    tokens = random_tokens(batch, num, seed)
    merged, weights = merge_tokens(tokens, target, heads)
    assert merged.shape == (batch, min(num, target), 8)
    assert (weights >= 1).all()
    assert torch.equal(weights.sum(1), torch.full((batch, 1), float(num)))
    torch.testing.assert_close((merged * weights).sum(1), tokens.sum(1), rtol=0, atol=1e-4)


@given(sizes)
@settings(max_examples=30, deadline=None)
def test_merging_treats_each_clip_alone(case):
    batch, num, target, heads, seed = case
    tokens = random_tokens(batch, num, seed)
    together, _ = merge_tokens(tokens, target, heads)
    alone = torch.cat([merge_tokens(clip[None], target, heads)[0] for clip in tokens])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_merging_equal_tokens_changes_none_of_them():
    # Repeated frames tie exactly; whatever is merged, the mean of equal tokens is that token.
    tokens = torch.arange(1.0, 9.0).expand(1, 24, 8)
    merged, weights = merge_tokens(tokens, 5, 2)
    torch.testing.assert_close(merged, tokens[:, :5], rtol=0, atol=1e-6)
    assert weights.sum() == 24


def test_unmerged_sources_come_first_in_falling_similarity():
    directions = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8], [0.0, 1.0]])[None]
    # Sources 0, 2, 4 find targets with similarity 1, 0.8, 0.8; one is merged, and the tie keeps its order.
    merged, weights = merge_tokens(directions, 5, 1)
    torch.testing.assert_close(merged, directions[:, [2, 4, 1, 3, 5]], rtol=0, atol=1e-6)
    assert weights[0, :, 0].tolist() == [1, 1, 2, 1, 1]


def test_gradients_flow_through_merging():
    tokens = random_tokens(2, 16, 0).requires_grad_()
    merged, weights = merge_tokens(tokens, 5, 2)
    (merged * weights).sum().backward()
    torch.testing.assert_close(tokens.grad, torch.ones_like(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "axis", "sign"),
    [((0, 8), 1, 1), ((0, -8), 1, -1), ((8, 0), 0, 1), ((-8, 0), 0, -1)],
    ids=["right", "left", "down", "up"],
)
def test_motion_cue_tells_where_a_square_goes(step, axis, sign):
    torch.manual_seed(0)
    cue = MotionCue(config_with_cue())
    pixels_BTCHW = torch.full((1, 2, 3, 32, 32), -1.0)
    pixels_BTCHW[0, 0, :, 8:16, 8:16] = 2.0
    top, left = 8 + step[0], 8 + step[1]
    pixels_BTCHW[0, 1, :, top : top + 8, left : left + 8] = 2.0
    keys_BTNE = cue._keys(pixels_BTCHW)
    steps_BTN4 = cue._compare(keys_BTNE[:, :-1], keys_BTNE[:, 1:])
    y, x = steps_BTN4[0, 0, 1 * 4 + 1, :2].tolist()
    along, across = ((y, x), (x, y))[axis]
    assert along * sign > 0.5
    assert abs(along) > 5 * abs(across)


def test_motion_cue_is_told_to_the_tokens():
    torch.manual_seed(0)
    tower = VideoTower(config_with_cue()).eval()
    clips = random_clips(tower.config)
    tower.motion_cue.tell.weight.data.mul_(2)
    louder = tower(clips)
    tower.motion_cue.tell.weight.data.div_(2)
    assert not torch.allclose(louder, tower(clips))


def test_published_tower_has_no_motion_cue(tower):
    assert tower.motion_cue is None
    assert not [name for name in tower.state_dict() if "motion" in name]


def test_place_cue_tells_apart_tokens_that_look_alike():
    torch.manual_seed(0)
    tower = VideoTower(config_with_cue()).eval()
    tower.positions_NC.zero_()
    tower.motion_cue = None
    tokens_NC = tower(torch.zeros(1, 2, 3, 32, 32))[0].detach()
    apart_NN = torch.cdist(tokens_NC, tokens_NC) + torch.eye(len(tokens_NC))
    assert float(apart_NN.min()) > 1e-3
    tower.place_cue = None
    assert torch.allclose(*tower(torch.zeros(1, 2, 3, 32, 32))[0, :2])


def test_published_tower_has_no_place_cue(tower):
    assert tower.place_cue is None


def config_with_cue() -> VideoTowerConfig:
    return VideoTowerConfig(
        image_size=32,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_frames_per_clip=2,
        position_grid=4,
        motion_key_dim=6,
        has_place_cue=True,
    )
