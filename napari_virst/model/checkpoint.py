"""The published checkpoint's names, and how they become ours.

Only names and tensors are handled here; files are opened in :mod:`napari_virst.model.tensor_files`, where no code in
them runs, and written in :mod:`napari_virst.engine.conversion`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_virst.errors import CheckpointError
from napari_virst.model.tensor_files import open_checkpoint

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

_ROOMS_BACK: tuple[tuple[str, str], ...] = (
    (r"language\.model\.", "model."),
    (r"video_tower\.", "model.vision_tower.vision_tower.encoder."),
    (r"projector\.", "model.mm_projector."),
    (r"initial_fusion\.", "model.initial_seg_fusion_module."),
    (r"prompter\.", "model.seg_prompter."),
)

_DROPPED: tuple[tuple[str, str], ...] = (
    (r"lm_head\.", "no text is read; kept apart, in lm_head.safetensors, for answers in words"),
    (r"(?:model\.)?occ_predictor\.", "the published inference path never calls it"),
    (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$", "a fixed table; it is computed from the rotary base"),
)

POINT_EMBEDDING = "segmenter.prompt_encoder.point_embed.weight"
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


def normalise(name: str) -> str:
    """Return a checkpoint's name as the released code spells it, without the wrappers' marks.

    Examples
    --------
    >>> normalise("module.base_model.model.model.layers.0.mlp.up_proj.base_layer.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> normalise("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
    'model.layers.0.mlp.up_proj.lora_A.default.weight'
    """
    name = name.removeprefix("module.").removeprefix(PEFT_PREFIX).replace(".base_layer.", ".")
    return re.sub(r"\.lora_([AB])\.weight$", r".lora_\1.default.weight", name)


@dataclass(frozen=True)
class Place:
    """Where a published tensor goes."""

    targets: tuple[str, ...] = ()
    """Names in :class:`VirstModel`; empty when the tensor is dropped."""
    row: int | None = None
    """The row that it is of the target, where several published tensors become one."""
    dropped_because: str | None = None


def place_of(name: str) -> Place | None:
    """Look a normalised name up in the table; None when it is not there. LoRA matrices have no place of their own."""
    if reason := next((why for pattern, why in _DROPPED if re.match(pattern, name)), None):
        return Place(dropped_because=reason)
    room = next((re.sub(f"^{a}", b, name) for a, b in _ROOMS if re.match(a, name)), None)
    if room is None or ".lora_" in name:
        return None
    if not room.startswith("segmenter."):
        return Place((room,))
    inner = room.removeprefix("segmenter.")
    if point := _POINT.fullmatch(inner):
        return Place((POINT_EMBEDDING,), row=int(point[1]))
    return Place(tuple(f"segmenter.{new}" for new in _rename_sam(inner)))


def published_name(target: str) -> str:
    """Return what the published checkpoint calls a tensor of :class:`VirstModel`; for messages.

    Examples
    --------
    >>> published_name("prompter.seg_proj.weight")
    'model.seg_prompter.seg_proj.weight'
    """
    for ours, theirs in _ROOMS_BACK:
        if re.match(ours, target):
            return re.sub(f"^{ours}", theirs, target)
    inner = target.removeprefix("segmenter.")
    if target == POINT_EMBEDDING:
        inner = "sam_prompt_encoder.point_embeddings.0…3.weight"
    elif inner.endswith("positional_embedding"):
        inner = _GAUSSIAN
    elif layer := re.fullmatch(
        r"readout\.memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.(\w+)", inner
    ):
        inner = f"memory_encoder.mask_downsampler.encoder.{3 * int(layer[1]) + (layer[2] != 'conv')}.{layer[3]}"
    else:
        pairs = [_inverse(a, b) for a, b in _SAM]
        inner = next((re.sub(f"^{a}", b, inner) for a, b in pairs if re.match(a, inner)), inner)
    return f"model.seg_model.{inner}"


def _inverse(pattern: str, replacement: str) -> tuple[str, str]:
    """Turn a rule of the table round: its groups move into the replacement's place, back references into theirs."""
    groups = re.findall(r"\([^()]*\)", pattern)
    back = re.sub(r"\\\.", ".", pattern).rstrip("$")
    ahead = re.escape(replacement)
    for number, group in enumerate(groups, 1):
        ahead = ahead.replace(re.escape(f"\\{number}"), group)
        back = back.replace(re.sub(r"\\\.", ".", group), f"\\g<{number}>", 1)
    return ahead + ("$" if pattern.endswith("$") else ""), back


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a published checkpoint by normalised name, without running any code that may be in it.

    Raises
    ------
    CheckpointError
        When the file is damaged, holds anything but tensors, or has no ``model_state_dict``.
    """
    source = open_checkpoint(path)
    return {normalise(name): stored.read() for name, stored in source.tensors.items()}


def merge_lora(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Fold each pair of LoRA matrices into its weight: W + scaling · B A, computed in float32.

    Raises
    ------
    CheckpointError
        When a LoRA matrix has no partner or no weight to be folded into.
    """
    merged = {name: tensor for name, tensor in state.items() if ".lora_" not in name}
    for name in [n for n in state if ".lora_" in n]:
        target = re.split(r"\.lora_[AB]\.", name)[0] + ".weight"
        partner = re.sub(r"\.lora_([AB])\.", lambda m: f".lora_{'BA'[m[1] == 'B']}.", name)
        if target not in merged or partner not in state:
            raise CheckpointError(f'"{name}" must come with "{partner}" and "{target}"; the checkpoint is incomplete.')
        if ".lora_A." in name:
            merged[target] = fold(merged[target], state[name], state[partner], scaling)
    return merged


def fold(weight_DC: Tensor, a_RC: Tensor, b_DR: Tensor, scaling: float) -> Tensor:
    """Return W + scaling · B A in float32; D outputs, C inputs, R rank."""
    return torch.addmm(weight_DC.float(), b_DR.float(), a_RC.float(), alpha=scaling)


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
        place = place_of(name)
        if place is None:
            unknown.append(name)
        elif place.dropped_because is not None:
            dropped[name] = place.dropped_because
        elif place.row is not None:
            points[place.row] = tensor
        else:
            renamed.update(dict.fromkeys(place.targets, tensor))
    if unknown:
        raise CheckpointError(f"Every name must be known; {len(unknown)} are not: {', '.join(sorted(unknown)[:20])}.")
    if points:
        renamed[POINT_EMBEDDING] = torch.cat([points[i] for i in sorted(points)])
    return renamed, dropped


def _rename_sam(name: str) -> tuple[str, ...]:
    if name == _GAUSSIAN:  # transformers stores the random Fourier matrix twice
        return ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding")
    layer = re.fullmatch(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(\w+)", name)
    if layer and int(layer[1]) < 12:
        kind = ("conv", "layer_norm")[int(layer[1]) % 3]
        return (f"readout.memory_encoder.mask_downsampler.layers.{int(layer[1]) // 3}.{kind}.{layer[2]}",)
    return (next((re.sub(f"^{a}", b, name) for a, b in _SAM if re.match(a, name)), name),)
