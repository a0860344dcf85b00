"""The published checkpoint's names, and how they become ours.

Only names and tensors are handled here; the file is read with ``weights_only=True``, so that no code in it runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from napari_virst.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

PEFT_PREFIX = "base_model.model."

# Each rule: names of the published checkpoint -> names of VirstModel. The first match wins.
_ROOMS: tuple[tuple[str, str], ...] = (
    (r"model\.(embed_tokens|layers|norm)\b", r"language.model.\1"),
    (r"model\.vision_tower\.(?:vision_tower\.)?(?:model\.)?encoder\.", "video_tower."),
    (r"model\.vision_tower\.vision_tower\.", "video_tower."),
    (r"model\.mm_projector\.", "projector."),
    (r"(?:model\.)?initial_seg_fusion_module\.", "initial_fusion."),
    (r"(?:model\.)?seg_prompter\.", "prompter."),
    (r"(?:model\.)?seg_model\.", "segmenter."),
)

_DROPPED: tuple[tuple[str, str], ...] = (
    (r"lm_head\.", "no text is read; it is loaded only where an answer in words is asked for"),
    (r"(?:model\.)?occ_predictor\.", "the published inference path never calls it"),
)

_POINT = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight")
_GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

_HEADS = r"sam_mask_decoder\.(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers"

# SAM 2.1 as published -> transformers' blocks, with memory parts under `readout`.
_SAM: tuple[tuple[str, str], ...] = (
    (r"image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
    (r"image_encoder\.trunk\.(blocks\.\d+)\.norm(\d)\.", r"vision_encoder.backbone.\1.layer_norm\2."),
    (r"image_encoder\.trunk\.(blocks\.\d+\.mlp)\.layers\.0\.", r"vision_encoder.backbone.\1.proj_in."),
    (r"image_encoder\.trunk\.(blocks\.\d+\.mlp)\.layers\.1\.", r"vision_encoder.backbone.\1.proj_out."),
    (r"image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"memory_attention\.norm\.", "readout.memory_attention.layer_norm."),
    (r"memory_attention\.(layers\.\d+\.\w+)\.out_proj\.", r"readout.memory_attention.\1.o_proj."),
    (r"memory_attention\.(layers\.\d+)\.norm(\d)\.", r"readout.memory_attention.\1.layer_norm\2."),
    (r"memory_attention\.", "readout.memory_attention."),
    (r"memory_encoder\.mask_downsampler\.encoder\.12\.", "readout.memory_encoder.mask_downsampler.final_conv."),
    (r"memory_encoder\.pix_feat_proj\.", "readout.memory_encoder.feature_projection."),
    (r"memory_encoder\.out_proj\.", "readout.memory_encoder.projection."),
    (r"memory_encoder\.fuser\.(layers\.\d+)\.gamma$", r"readout.memory_encoder.memory_fuser.\1.scale"),
    (r"memory_encoder\.fuser\.(layers\.\d+)\.dwconv\.", r"readout.memory_encoder.memory_fuser.\1.depthwise_conv."),
    (r"memory_encoder\.fuser\.(layers\.\d+)\.norm\.", r"readout.memory_encoder.memory_fuser.\1.layer_norm."),
    (r"memory_encoder\.fuser\.(layers\.\d)\.pwconv(\d)\.", r"readout.memory_encoder.memory_fuser.\1.pointwise_conv\2."),
    (r"sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"sam_prompt_encoder\.", "prompt_encoder."),
    (r"sam_mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"sam_mask_decoder\.(transformer\.\S*attn\w*)\.out_proj\.", r"mask_decoder.\1.o_proj."),
    (r"sam_mask_decoder\.(transformer\.layers\.\d+)\.norm(\d)\.", r"mask_decoder.\1.layer_norm\2."),
    (r"sam_mask_decoder\.(transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"mask_decoder.\1.proj_in."),
    (r"sam_mask_decoder\.(transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"mask_decoder.\1.proj_out."),
    (r"sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (_HEADS + r"\.0\.", r"mask_decoder.\1.proj_in."),
    (_HEADS + r"\.1\.", r"mask_decoder.\1.layers.0."),
    (_HEADS + r"\.2\.", r"mask_decoder.\1.proj_out."),
    (r"sam_mask_decoder\.", "mask_decoder."),
    (r"obj_ptr_proj\.layers\.0\.", "readout.object_pointer_proj.proj_in."),
    (r"obj_ptr_proj\.layers\.1\.", "readout.object_pointer_proj.layers.0."),
    (r"obj_ptr_proj\.layers\.2\.", "readout.object_pointer_proj.proj_out."),
    (r"obj_ptr_tpos_proj\.", "readout.temporal_positional_encoding_projection_layer."),
    (r"maskmem_tpos_enc$", "readout.memory_temporal_positional_encoding"),
    (r"no_mem_embed$", "no_memory_embedding"),
    (r"no_mem_pos_enc$", "readout.no_memory_positional_encoding"),
    (r"no_obj_ptr$", "readout.no_object_pointer"),
    (r"no_obj_embed_spatial$", "readout.occlusion_spatial_embedding_parameter"),
    (r"mask_downsample\.", "readout.mask_downsample."),
)  # fmt: skip


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a published checkpoint, without running any code that may be in it.

    Raises
    ------
    CheckpointError
        When the file is damaged, holds anything but tensors, or has no ``model_state_dict``.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, zipfile errors …
        raise CheckpointError(
            f'"{path}" must be a checkpoint of tensors alone; it cannot be read safely: {error}'
        ) from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f'"{path}" must hold a "model_state_dict"; it does not; give the authors\' checkpoint.')
    return {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in state.items()}


def merge_lora(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Fold each pair of LoRA matrices into its weight: W + scaling · B A, computed in float32.

    Raises
    ------
    CheckpointError
        When a LoRA matrix has no partner or no weight to be folded into.
    """
    merged = {name: tensor for name, tensor in state.items() if ".lora_" not in name}
    for name in [n for n in state if ".lora_A." in n]:
        target = name.split(".lora_A.")[0] + ".weight"
        partner = name.replace(".lora_A.", ".lora_B.")
        if target not in merged or partner not in state:
            raise CheckpointError(f'"{name}" must come with "{partner}" and "{target}"; the checkpoint is incomplete.')
        update = state[partner].float() @ state[name].float()
        merged[target] = merged[target].float() + scaling * update
    return merged


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Translate published names into those of :class:`VirstModel`.

    Returns
    -------
    The translated tensors, and for each dropped name the reason.

    Raises
    ------
    CheckpointError
        When a name is not in the table; all such names are listed.
    """
    renamed: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    unknown: list[str] = []
    points: dict[int, Tensor] = {}
    for name, tensor in state.items():
        reason = next((why for pattern, why in _DROPPED if re.match(pattern, name)), None)
        room = next((re.sub(f"^{a}", b, name) for a, b in _ROOMS if re.match(a, name)), None)
        if reason is not None:
            dropped[name] = reason
        elif room is None:
            unknown.append(name)
        elif room.startswith("segmenter."):
            inner = room.removeprefix("segmenter.")
            if point := _POINT.fullmatch(inner):
                points[int(point[1])] = tensor
            else:
                renamed.update({f"segmenter.{new}": tensor for new in _rename_sam(inner)})
        else:
            renamed[room] = tensor
    if unknown:
        raise CheckpointError(f"Every name must be known; {len(unknown)} are not: {', '.join(sorted(unknown)[:20])}.")
    if points:
        renamed["segmenter.prompt_encoder.point_embed.weight"] = torch.cat([points[i] for i in sorted(points)])
    return renamed, dropped


def _rename_sam(name: str) -> tuple[str, ...]:
    if name == _GAUSSIAN:  # transformers stores the random Fourier matrix twice
        return ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding")
    layer = re.fullmatch(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(\w+)", name)
    if layer and int(layer[1]) < 12:
        kind = ("conv", "layer_norm")[int(layer[1]) % 3]
        return (f"readout.memory_encoder.mask_downsampler.layers.{int(layer[1]) // 3}.{kind}.{layer[2]}",)
    return (next((re.sub(f"^{a}", b, name) for a, b in _SAM if re.match(a, name)), name),)
