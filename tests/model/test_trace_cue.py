"""What the trace of a colour says of little plays drawn by hand."""

from __future__ import annotations

import pytest
import torch

from napari_virst.model.config import VideoTowerConfig
from napari_virst.model.trace_cue import TraceCue
from napari_virst.model.video_tower import VideoTower

SIDE, GRID, NUM_FRAMES = 96, 8, 4
CELL = 3 * GRID + 3
"""The cell in which every play begins, at row 3 and column 3."""
Y, X, AMOUNT, STRENGTH, SPREAD, INSIDE = range(6)


@pytest.fixture
def cue() -> TraceCue:
    torch.manual_seed(0)
    return TraceCue(config())


def config(**options) -> VideoTowerConfig:
    return VideoTowerConfig(
        image_size=SIDE,
        patch_size=SIDE // GRID,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_frames_per_clip=NUM_FRAMES,
        position_grid=GRID,
        has_trace_cue=True,
        **options,
    )


def play(*, half=(6, 6, 6, 6), level=(2.0,) * 4, y=(42,) * 4, x=(42,) * 4) -> torch.Tensor:
    pixels = torch.full((1, NUM_FRAMES, 3, SIDE, SIDE), -0.5)
    for t, (h, value, cy, cx) in enumerate(zip(half, level, y, x, strict=True)):
        pixels[0, t, 0, cy - h : cy + h, cx - h : cx + h] = value
    return pixels


def onward(cue: TraceCue, pixels: torch.Tensor, steps: int) -> list[float]:
    features = cue.trace(pixels)[0, 0, CELL]
    return features[6 * (steps - 1) : 6 * steps].tolist()


def test_nothing_changes_where_nothing_happens(cue):
    assert onward(cue, play(), 3) == pytest.approx([0, 0, 0, 0, 0, 1], abs=0.02)


def test_growing_is_a_rising_amount_and_spread(cue):
    told = onward(cue, play(half=(4, 5, 6, 8)), 3)
    assert told[AMOUNT] > 2
    assert told[SPREAD] > 2
    assert told[Y] == pytest.approx(0, abs=0.02)


def test_fading_is_a_falling_strength(cue):
    told = [onward(cue, play(level=(2.0, 1.5, 1.0, 0.5)), steps)[STRENGTH] for steps in (1, 2, 3)]
    assert told[0] < -0.5
    assert told == sorted(told, reverse=True)


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_blinking_is_nothing_found_on_some_frames(cue, hidden):
    level = [2.0] * NUM_FRAMES
    level[hidden] = -0.5
    amounts = [onward(cue, play(level=tuple(level)), steps)[AMOUNT] for steps in (1, 2, 3)]
    assert amounts.pop(hidden - 1) < -3
    assert amounts == pytest.approx([0, 0], abs=0.02)


@pytest.mark.parametrize(("axis", "along", "across"), [("y", Y, X), ("x", X, Y)])
def test_the_way_adds_up_over_frames(cue, axis, along, across):
    ways = [onward(cue, play(**{axis: (42, 46, 50, 54)}), steps) for steps in (1, 2, 3)]
    assert 0 < ways[0][along] < ways[1][along] < ways[2][along]
    assert [way[across] for way in ways] == pytest.approx([0, 0, 0], abs=0.02)


def test_an_object_alike_that_is_far_away_is_not_taken_for_it(cue):
    alone, beside = play(), play()
    beside[0, :, 0, 80:92, 80:92] = 2.0
    assert onward(cue, beside, 3) == pytest.approx(onward(cue, alone, 3), abs=0.1)


def test_the_way_back_is_the_way_onward_of_the_reversed_clip(cue):
    pixels = play(x=(42, 50, 58, 66), half=(6, 6, 7, 8))
    there, back = cue.trace(pixels), cue.trace(pixels.flip(1)).flip(1)
    half = 6 * (NUM_FRAMES - 1)
    torch.testing.assert_close(there[..., :half], back[..., half : 2 * half])


def test_beyond_the_ends_of_a_clip_nothing_is_told(cue):
    features = cue.trace(play())[0]
    assert features[-1, CELL, : 6 * (NUM_FRAMES - 1)].abs().max() == 0
    assert features[0, CELL, 6 * (NUM_FRAMES - 1) : -3].abs().max() == 0
    assert features[1, CELL, [6 * 2 + INSIDE, 6 * 3 + INSIDE, 6 * 4 + INSIDE]].tolist() == [0, 1, 0]


def test_a_plain_clip_is_told_without_a_number_that_is_none(cue):
    assert cue(torch.zeros(1, NUM_FRAMES, 3, SIDE, SIDE)).isfinite().all()


def test_it_is_told_to_the_tokens_of_the_tower():
    torch.manual_seed(0)
    tower = VideoTower(config()).eval()
    before = tower(play())
    tower.trace_cue.tell.bias.data += 1
    assert not torch.allclose(before, tower(play()))


def test_the_published_tower_has_none():
    tower = VideoTower(VideoTowerConfig(image_size=32, patch_size=8, hidden_size=24, num_attention_heads=2))
    assert tower.trace_cue is None
    assert not [name for name in tower.state_dict() if "trace" in name]
