"""Stages 4 and 5: vision tower, merged tokens, projector, each from the recorded output of the stage before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_virst.model.config import VideoTowerConfig, VirstConfig
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.video_tower import Projector, VideoTower, merge_tokens, position_table, sinusoid_table

pytestmark = [pytest.mark.parity, pytest.mark.shared]

# The reference multiplies queries before the product and uses no fused kernel; values are about 1. A wrong GELU or
# LayerNorm epsilon shows at 50 times this (parity/README.md).
TOWER_TOLERANCE = 5e-6
# From recorded tokens on, only sums of a few float32 numbers in another order are left.
SUM_TOLERANCE = 2e-6
# Tables are computed in float64; float32 sin and cos of large angles differ in the last place.
TABLE_TOLERANCE = 1e-6


def clips_of(recording) -> torch.Tensor:
    processor = VirstProcessor(
        build_word_tokenizer([]), video_size=recording.tower_config.image_size, resize_preset="reference"
    )
    pixels = processor.video_pixels(recording.inputs["video_frames_u8"][recording.inputs["vlm_frame_ids"]])
    return pixels.unflatten(0, (-1, recording.tower_config.num_frames_per_clip))


def tower_features(recording) -> torch.Tensor:
    return recording.video_tower(clips_of(recording))


def test_position_table_at_published_size(official_constants):
    table = position_table(VideoTowerConfig()).numpy()
    strided = official_constants["umt_pos_embed_448_strided"]
    rows, columns = (-(-n // s) for n, s in zip(table.shape, strided.shape, strict=True))
    np.testing.assert_allclose(table[::rows, ::columns][: len(strided)], strided, rtol=0, atol=TABLE_TOLERANCE)
    column_means = table.astype(np.float64).mean(0)
    np.testing.assert_allclose(column_means, official_constants["umt_pos_embed_448_colmean"], rtol=0, atol=1e-7)


def test_sinusoid_recipe_on_the_single_image_grid(official_constants):
    # The published single-image table has the same recipe on one 14×14 grid.
    config = VideoTowerConfig(num_frames_per_clip=1)
    table = position_table(config).numpy()
    strided = official_constants["umt_img_pos_embed_448_strided"]
    rows, columns = (-(-n // s) for n, s in zip(table.shape, strided.shape, strict=True))
    np.testing.assert_allclose(table[::rows, ::columns], strided, rtol=0, atol=TABLE_TOLERANCE)
    assert sinusoid_table(196, 1024).shape == (196, 1024)


def test_input_of_the_first_block(recording):
    found = recording.video_tower.embed(clips_of(recording)[:1])[0]
    torch.testing.assert_close(found, recording.array("umt_block0_input_clip0"), rtol=0, atol=TOWER_TOLERANCE)


def test_vision_tower_features(any_recording):
    found = tower_features(any_recording)
    name = "vision_tower_features"
    if any_recording.is_native:
        name, found = f"{name}_strided", found[:, ::17]
    torch.testing.assert_close(found, any_recording.array(name), rtol=0, atol=TOWER_TOLERANCE)


def test_merged_tokens(recording):
    features, config = recording.array("vision_tower_features"), recording.tower_config
    merged, _ = merge_tokens(features, config.num_tokens_per_clip, config.num_attention_heads)
    torch.testing.assert_close(merged, recording.array("tome_tokens"), rtol=0, atol=SUM_TOLERANCE)


def test_tokens_from_pixels_to_merging(any_recording):
    config = any_recording.tower_config
    merged, _ = merge_tokens(tower_features(any_recording), config.num_tokens_per_clip, config.num_attention_heads)
    difference = (merged - any_recording.array("tome_tokens")).abs().amax(-1)
    # At 3136 tokens a feature noise of 1e-5 changes 3 to 7 of 128 tokens (parity/README.md: a tie of 5e-7 between two
    # targets); at 196 none.
    allowed = 7 if any_recording.is_native else 0
    assert int((difference > TOWER_TOLERANCE).sum()) <= allowed


def test_projector_mlp(any_recording):
    found = any_recording.projector.mlp(any_recording.array("tome_tokens"))
    torch.testing.assert_close(found, any_recording.array("mm_projector_tokens"), rtol=0, atol=TOWER_TOLERANCE)


def test_visual_tokens_from_pixels(recording):
    found = recording.projector(tower_features(recording))
    torch.testing.assert_close(found, recording.array("mm_projector_tokens"), rtol=0, atol=TOWER_TOLERANCE)


def test_names_and_shapes_are_those_of_the_published_checkpoint(official_shapes):
    config = VirstConfig.official()
    with torch.device("meta"):
        parts = {
            "model.vision_tower.vision_tower.encoder.": VideoTower(config.video_config),
            "model.mm_projector.": Projector(config.video_config, config.text_config.hidden_size),
        }
    for prefix, module in parts.items():
        found = {prefix + name: tuple(value.shape) for name, value in module.state_dict().items()}
        assert found == {name: shape for name, shape in official_shapes.items() if name.startswith(prefix)}
