"""Published sizes: every tensor of the published checkpoint has its place, and every switch its value."""

from __future__ import annotations

import pytest
import torch

from napari_virst.model.checkpoint import merge_lora, rename
from napari_virst.model.config import VirstConfig
from napari_virst.model.virst import VirstModel

pytestmark = pytest.mark.parity


def test_every_published_tensor_has_its_place_and_no_place_stays_empty(official_shapes, official_config):
    state = {name: torch.empty(shape, device="meta") for name, shape in official_shapes.items()}
    renamed, _ = rename(merge_lora(state, official_config["lora"]["scaling"]))
    with torch.device("meta"):
        model = VirstModel(VirstConfig.official())
    expected = {name: tuple(value.shape) for name, value in renamed.items()}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


def test_text_sizes(official_config):
    config, llm = VirstConfig.official(), official_config["llm"]
    text = config.text_config
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        assert getattr(text, name) == llm[name]
    assert (text.vocab_size, text.rms_norm_eps, text.hidden_act) == (llm["vocab_size"], llm["rms_norm_eps"], "silu")
    assert text.rope_parameters["rope_theta"] == llm["rope_theta"]
    assert text.tie_word_embeddings is llm["tie_word_embeddings"]
    assert text.use_sliding_window is llm["use_sliding_window"]
    assert config.st_token_id == official_config["tokens"]["seg_token_id"]
    assert config.image_token_id == official_config["tokens"]["image_token_id"]


def test_video_tower_and_fusion_sizes(official_config):
    config, tower, fusion = VirstConfig.official(), official_config["vision_tower"], official_config["st_fusion"]
    video = config.video_config
    assert (video.image_size, video.patch_size, video.num_frames_per_clip) == (448, 16, tower["local_num_frames"])
    assert video.patch_grid**2 == tower["tokens_per_frame"]
    assert (video.hidden_size, video.num_hidden_layers) == (tower["hidden_size"], tower["num_blocks_run"])
    assert video.num_attention_heads == tower["num_attention_heads"] == official_config["projector"]["metric_heads"]
    assert (video.layer_norm_eps, video.final_layer_norm_eps) == (
        tower["block_layernorm_eps"],
        tower["final_layernorm_eps"],
    )
    assert video.num_tokens_per_clip == official_config["projector"]["tokens_per_clip"]
    found = config.st_fusion_config
    assert (found.num_st_tokens, found.num_prompter_layers) == (fusion["num_seg_tokens"], fusion["prompter_layers"])
    assert (found.num_prompter_heads, found.num_initial_heads) == (
        fusion["prompter_heads"],
        fusion["initial_fusion_heads"],
    )
    cells = official_config["sam2"]["feature_size"]
    assert cells // 2**found.num_downsamples == fusion["grid_hw"]
    assert config.segmenter_config.num_channels == fusion["token_dim"]


def test_segmenter_sizes(official_config):
    sam2, sizes = VirstConfig.official().segmenter_config.sam2_config, official_config["sam2"]
    backbone, decoder = sam2.vision_config.backbone_config, sam2.mask_decoder_config
    pairs = {
        "image_size": sam2.image_size,
        "embed_dim_per_stage": backbone.embed_dim_per_stage,
        "blocks_per_stage": backbone.blocks_per_stage,
        "num_heads_per_stage": backbone.num_attention_heads_per_stage,
        "global_attention_blocks": backbone.global_attention_blocks,
        "window_size_per_stage": backbone.window_size_per_stage,
        "window_pos_embed_bkg_spatial_size": backbone.window_positional_embedding_background_size,
        "q_pool_stages": backbone.num_query_pool_stages,
        "q_stride": backbone.query_stride,
        "mlp_ratio": backbone.mlp_ratio,
        "layernorm_eps": backbone.layer_norm_eps,
        "fpn_dim": sam2.vision_config.fpn_hidden_size,
        "fpn_top_down_levels": sam2.vision_config.fpn_top_down_levels,
        "memory_attention_layers": sam2.memory_attention_num_layers,
        "memory_attention_ff": sam2.memory_attention_feed_forward_hidden_size,
        "memory_attention_heads": sam2.memory_attention_num_attention_heads,
        "rope_feat_sizes": list(sam2.memory_attention_rope_feat_sizes),
        "rope_theta": sam2.rope_parameters["rope_theta"],
        "mem_dim": sam2.memory_encoder_output_channels,
        "fuser_layers": sam2.memory_fuser_num_layers,
        "num_maskmem": sam2.num_maskmem,
        "max_cond_frames_in_attn": sam2.max_cond_frame_num,
        "max_obj_ptrs_in_encoder": sam2.max_object_pointers_in_encoder,
        "sigmoid_scale_for_mem_enc": sam2.sigmoid_scale_for_mem_enc,
        "sigmoid_bias_for_mem_enc": sam2.sigmoid_bias_for_mem_enc,
        "mask_decoder_depth": decoder.num_hidden_layers,
        "mask_decoder_mlp_dim": decoder.mlp_dim,
        "mask_decoder_heads": decoder.num_attention_heads,
        "iou_head_hidden": decoder.iou_head_hidden_dim,
        "iou_head_depth": decoder.iou_head_depth,
        "dynamic_multimask_via_stability": decoder.dynamic_multimask_via_stability,
        "stability_delta": decoder.dynamic_multimask_stability_delta,
        "stability_thresh": decoder.dynamic_multimask_stability_thresh,
    }
    assert pairs == {name: sizes[name] for name in pairs}
    assert sam2.image_size // sam2.prompt_encoder_config.patch_size == sizes["feature_size"]
