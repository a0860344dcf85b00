"""Sizes written in the layout of the recorded runs (``official_config.json``) become a :class:`VirstConfig`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig, Sam2VideoPromptEncoderConfig

from napari_virst.errors import CheckpointError
from napari_virst.model.config import FusionConfig, VideoTowerConfig, VirstConfig, qwen2_config
from napari_virst.model.segmenter_config import SegmenterConfig

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Qwen2Config

OFFICIAL_LORA = {"r": 64, "alpha": 16}
"""Rank and alpha of the published finetuning; alpha is written in no checkpoint."""


@dataclass(frozen=True)
class PublishedSizes:
    """What a checkpoint does not say of itself."""

    config: VirstConfig
    lora_scaling: float
    """Factor of B · A when LoRA is merged: alpha / rank."""
    lora_rank: int
    """The rank that this factor holds for."""

    @classmethod
    def official(cls) -> PublishedSizes:
        """Return the sizes of the authors' checkpoint."""
        return cls(VirstConfig.official(), lora_scaling(OFFICIAL_LORA), OFFICIAL_LORA["r"])

    @classmethod
    def read(cls, path: Path) -> PublishedSizes:
        """Read a JSON file of sizes.

        Raises
        ------
        CheckpointError
            When the file is no JSON object, or a size is missing or impossible.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f'The sizes in "{path}" must be a JSON object; got: {error}') from error
        try:
            return cls(virst_config(content), lora_scaling(content["lora"]), int(content["lora"]["r"]))
        except KeyError as error:
            raise CheckpointError(
                f'The sizes in "{path}" must name {error}; they do not; take the layout of the published sizes '
                "(sections llm, lora, vision_tower, projector, sam2, st_fusion, tokens)."
            ) from error
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(f'The sizes in "{path}" must fit each other; they do not: {error}') from error


def lora_scaling(sizes: dict[str, Any]) -> float:
    """Return alpha / rank.

    Examples
    --------
    >>> lora_scaling({"r": 64, "alpha": 16})
    0.25
    """
    return float(sizes["alpha"]) / float(sizes["r"])


def virst_config(sizes: dict[str, Any]) -> VirstConfig:
    """Return the whole model's configuration; memory is not rounded to bfloat16."""
    sam2, tokens = sizes["sam2"], sizes["tokens"]
    segmenter = SegmenterConfig(
        sam2_config=sam2_config(sam2, sizes["st_fusion"]["token_dim"]), round_memory_to_bf16=False
    )
    return VirstConfig(
        video_config=video_config(sizes["vision_tower"], sizes["projector"]),
        text_config=text_config(sizes["llm"]),
        st_fusion_config=fusion_config(sizes["st_fusion"], sam2["feature_size"]),
        segmenter_config=segmenter,
        st_token_id=tokens["seg_token_id"],
        image_token_id=tokens["image_token_id"],
        max_anchors=sam2["max_cond_frames_in_attn"],
        num_fifo_frames=sam2["num_maskmem"] - 1,
    )


def video_config(tower: dict[str, Any], projector: dict[str, Any]) -> VideoTowerConfig:
    """Return the video tower's sizes; the merging averages over the tower's heads."""
    if projector["metric_heads"] != tower["num_attention_heads"]:
        raise ValueError(
            f"projector.metric_heads must be vision_tower.num_attention_heads={tower['num_attention_heads']}; "
            f"got {projector['metric_heads']}"
        )
    return VideoTowerConfig(
        image_size=tower["image_size"],
        patch_size=tower["patch_size"],
        hidden_size=tower["hidden_size"],
        num_hidden_layers=tower["num_blocks_run"],
        num_attention_heads=tower["num_attention_heads"],
        mlp_ratio=float(tower["mlp_ratio"]),
        num_frames_per_clip=tower["local_num_frames"],
        layer_norm_eps=tower["block_layernorm_eps"],
        final_layer_norm_eps=tower["final_layernorm_eps"],
        num_tokens_per_clip=projector["tokens_per_clip"],
    )


def fusion_config(fusion: dict[str, Any], feature_size: int) -> FusionConfig:
    """Return ST-Fusion's sizes; each of its convolutions halves the segmenter's map, rounding up, to ``grid_hw``."""
    num_downsamples, cells = 0, feature_size
    while cells > fusion["grid_hw"] and cells > 1:
        num_downsamples, cells = num_downsamples + 1, (cells + 1) // 2
    if cells != fusion["grid_hw"]:
        raise ValueError(f"st_fusion.grid_hw must be sam2.feature_size={feature_size} halved; got {fusion['grid_hw']}")
    return FusionConfig(
        num_st_tokens=fusion["num_seg_tokens"],
        num_downsamples=num_downsamples,
        num_prompter_layers=fusion["prompter_layers"],
        num_prompter_heads=fusion["prompter_heads"],
        num_initial_heads=fusion["initial_fusion_heads"],
    )


def text_config(llm: dict[str, Any]) -> Qwen2Config:
    """Return the language model's sizes."""
    names = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
    return qwen2_config(
        rope_theta=llm["rope_theta"],
        rms_norm_eps=llm["rms_norm_eps"],
        hidden_act=llm["hidden_act"],
        tie_word_embeddings=llm["tie_word_embeddings"],
        **{name: llm[name] for name in names.split()},
    )


def sam2_config(sizes: dict[str, Any], fusion_width: int) -> Sam2VideoConfig:
    """Return the segmenter's sizes, from the names of the publication to those of transformers."""
    cells, side = sizes["feature_size"], sizes["image_size"]
    return Sam2VideoConfig(
        image_size=side,
        vision_config=_vision_sizes(sizes),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=fusion_width, image_size=side, patch_size=side // cells
        ),
        mask_decoder_config=_mask_decoder_config(sizes, fusion_width),
        num_maskmem=sizes["num_maskmem"],
        max_cond_frame_num=sizes["max_cond_frames_in_attn"],
        max_object_pointers_in_encoder=sizes["max_obj_ptrs_in_encoder"],
        sigmoid_scale_for_mem_enc=sizes["sigmoid_scale_for_mem_enc"],
        sigmoid_bias_for_mem_enc=sizes["sigmoid_bias_for_mem_enc"],
        memory_attention_num_layers=sizes["memory_attention_layers"],
        memory_attention_num_attention_heads=sizes["memory_attention_heads"],
        memory_attention_feed_forward_hidden_size=sizes["memory_attention_ff"],
        memory_attention_rope_feat_sizes=sizes["rope_feat_sizes"],
        rope_parameters={"rope_type": "axial", "rope_theta": sizes["rope_theta"]},
        memory_encoder_output_channels=sizes["mem_dim"],
        memory_fuser_num_layers=sizes["fuser_layers"],
    )


def _vision_sizes(sizes: dict[str, Any]) -> dict[str, Any]:
    cells, stage_widths = sizes["feature_size"], sizes["embed_dim_per_stage"]
    same = ("blocks_per_stage", "embed_dim_per_stage", "window_size_per_stage", "global_attention_blocks")
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": sizes["embed_dim"],
        "num_attention_heads": sizes["num_heads_per_stage"][0],
        "image_size": [sizes["image_size"]] * 2,
        "num_query_pool_stages": sizes["q_pool_stages"],
        "num_attention_heads_per_stage": sizes["num_heads_per_stage"],
        "window_positional_embedding_background_size": sizes["window_pos_embed_bkg_spatial_size"],
        "query_stride": sizes["q_stride"],
        "mlp_ratio": float(sizes["mlp_ratio"]),
        "layer_norm_eps": sizes["layernorm_eps"],
    } | {name: sizes[name] for name in same}
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": stage_widths[::-1],
        "backbone_feature_sizes": [[cells * 4] * 2, [cells * 2] * 2, [cells] * 2],
        "fpn_hidden_size": sizes["fpn_dim"],
        "fpn_top_down_levels": sizes["fpn_top_down_levels"],
        "num_feature_levels": len(stage_widths) - sizes["scalp"],
    }


def _mask_decoder_config(sizes: dict[str, Any], fusion_width: int) -> Sam2VideoMaskDecoderConfig:
    return Sam2VideoMaskDecoderConfig(
        hidden_size=fusion_width,
        mlp_dim=sizes["mask_decoder_mlp_dim"],
        num_hidden_layers=sizes["mask_decoder_depth"],
        num_attention_heads=sizes["mask_decoder_heads"],
        iou_head_depth=sizes["iou_head_depth"],
        iou_head_hidden_dim=sizes["iou_head_hidden"],
        dynamic_multimask_via_stability=sizes["dynamic_multimask_via_stability"],
        dynamic_multimask_stability_delta=sizes["stability_delta"],
        dynamic_multimask_stability_thresh=sizes["stability_thresh"],
    )
