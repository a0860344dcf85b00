"""The segmenter: SAM 2.1's image encoder, prompt and mask decoder, and a memory readout.

It has no loop and no state: frames in, masks out, memories handed in and out. The blocks are transformers'; which
frame reads which memory is decided in :mod:`napari_virst.model.memory`.

Shape legend: B objects (or frames), C channels, H W cells of the coarse map, h w pixels of low-resolution masks
(4H, 4W), S side of the square input in pixels, N prompt tokens, M candidate masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoPositionalEmbedding,
    Sam2VideoPromptEncoder,
)

from napari_virst.model.derived import Derived, is_plain
from napari_virst.model.mask_decoder import MaskDecoder
from napari_virst.model.readout import AffinityReadout, AttentionReadout, ImageFeatures, MemoryEntry, MemoryView

if TYPE_CHECKING:
    from napari_virst.model.segmenter_config import SegmenterConfig

ABSENT_LOGIT = -1024.0  # what SAM 2 writes over the mask of an object whose score is not positive
GIVEN_LOGIT = 10.0  # ± this stands for a mask that a person gave


@dataclass(frozen=True)
class Decoded:
    """What the mask decoder says of one frame of B objects."""

    low_res_B1hw: Tensor
    """Logits of the chosen mask."""
    candidates_BMhw: Tensor
    """Logits of all candidate masks before the choice, not overwritten where the object is absent."""
    iou_BM: Tensor
    """Predicted IoU of each candidate, 0…1; (1, NaN, …) on a frame whose mask was given."""
    score_B: Tensor
    """Object score logit; the object is taken to be visible where it is > 0."""
    pointer_BC: Tensor | None
    """Object pointer; None in the affinity readout."""

    @property
    def visible_B(self) -> Tensor:
        """(B,) bool."""
        return self.score_B > 0

    @property
    def best_iou_B(self) -> Tensor:
        """Predicted IoU of the chosen mask."""
        return self.iou_BM.nan_to_num(0.0).amax(-1)


class Segmenter(nn.Module):
    """Encodes frames, decodes prompts or memories into masks, and encodes masks into memories."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        sam2 = config.sam2_config
        self.config = config
        sam2.mask_decoder_config._attn_implementation = "sdpa"
        sam2._attn_implementation = "sdpa"
        self.shared_image_embedding = Sam2VideoPositionalEmbedding(sam2.prompt_encoder_config)
        self.vision_encoder = AutoModel.from_config(sam2.vision_config)
        self.prompt_encoder = Sam2VideoPromptEncoder(sam2.prompt_encoder_config)
        self.mask_decoder = MaskDecoder(sam2.mask_decoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, config.num_channels))
        self.readout: AttentionReadout | AffinityReadout = (
            AttentionReadout(config) if config.memory_readout == "attention" else AffinityReadout(config)
        )
        self._derived = Derived()

    def encode(self, pixels_B3SS: Tensor) -> ImageFeatures:
        """Encode normalised frames (B, 3, S, S); S may differ from the configured size in the affinity readout."""
        pixels_B3SS = pixels_B3SS.to(self.no_memory_embedding.dtype)
        maps = self.vision_encoder.backbone(pixels_B3SS).intermediate_hidden_states
        return ImageFeatures(*self._pyramid(maps))

    def _pyramid(self, maps_BHWC: tuple[Tensor, ...]) -> list[Tensor]:
        """SAM 2's neck without its position codes, which took a third of the encoder's time and are not used here.

        The two finer levels come as the mask decoder takes them.
        """
        neck, num_levels = self.vision_encoder.neck, self.vision_encoder.num_feature_levels
        skips = {0: "conv_s0", 1: "conv_s1"}
        levels: list[Tensor] = []
        above_BCHW: Tensor | None = None
        for depth, (conv, map_BHWC) in enumerate(zip(neck.convs, maps_BHWC[::-1], strict=True)):
            number = len(maps_BHWC) - 1 - depth
            map_BCHW = map_BHWC.permute(0, 3, 1, 2).to(conv.weight.dtype)
            skip = getattr(self.mask_decoder, skips[number]) if number in skips else None
            is_alone = not set(range(number + 1)) & set(neck.fpn_top_down_levels)
            if skip is not None and is_alone and is_plain(map_BCHW) and conv.kernel_size == (1, 1):
                levels.append(F.conv2d(map_BCHW, *self._composed(skips[number], conv, skip)))
                continue
            level_BCHW = conv(map_BCHW)
            if above_BCHW is not None and number in neck.fpn_top_down_levels:
                above = F.interpolate(above_BCHW.float(), scale_factor=2.0, mode="nearest")
                level_BCHW = level_BCHW + above.to(level_BCHW.dtype)
            above_BCHW = level_BCHW
            levels.append(level_BCHW if skip is None else skip(level_BCHW))
        return levels[-num_levels:][::-1]

    def _composed(self, name: str, first: nn.Conv2d, second: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Weight and bias of two 1×1 convolutions in a row: the 128 channels between them took 1 of 8 ms."""
        assert first.bias is not None
        assert second.bias is not None
        inner_bias_C, outer_bias_O = first.bias, second.bias

        def compose() -> tuple[Tensor, Tensor]:
            inner_CI, outer_OC = first.weight[:, :, 0, 0].double(), second.weight[:, :, 0, 0].double()
            bias_O = outer_bias_O.double() + outer_OC @ inner_bias_C.double()
            return (outer_OC @ inner_CI).float()[..., None, None], bias_O.float()

        weights = [first.weight, inner_bias_C, second.weight, outer_bias_O]
        return self._derived.fetch(name, weights, compose)

    def decode_prompted(
        self, features: ImageFeatures, prompts_BNC: Tensor, previous_B1hw: Tensor | None = None
    ) -> Decoded:
        """Decode a model anchor from ST prompts, without memory.

        ``previous_B1hw`` are the logits of an earlier answer on the same frame, fed back as a dense prompt.
        """
        coarse_BCHW = features.coarse_BCHW + self.no_memory_embedding.view(1, -1, 1, 1)
        dense_BCHW = None if previous_B1hw is None else self.prompt_encoder.mask_embed(previous_B1hw.clamp(-32, 32))
        return self._decode(features, coarse_BCHW, prompts_BNC, dense_BCHW)

    def decode_tracked(
        self, features: ImageFeatures, view: MemoryView, mask_decoder: nn.Module | None = None
    ) -> Decoded:
        """Decode a frame from what it reads in memory; ``mask_decoder`` stands in for the segmenter's own."""
        return self.decode_conditioned(self.condition(features, view), mask_decoder)

    def prepare(self, features: ImageFeatures) -> ImageFeatures:
        """Compute once what reading and remembering both need of frames that are followed."""
        return self.readout.prepare(features)

    def condition(self, features: ImageFeatures, view: MemoryView) -> ImageFeatures:
        """Return the features with what a frame reads in memory in its coarse map."""
        return ImageFeatures(features.fine_BCHW, features.middle_BCHW, self.readout.read(features, view))

    def decode_conditioned(self, features: ImageFeatures, mask_decoder: nn.Module | None = None) -> Decoded:
        """Decode a frame from features that are conditioned already."""
        no_points_BNC = self._no_points(len(features.coarse_BCHW))
        return self._decode(features, features.coarse_BCHW, no_points_BNC, mask_decoder=mask_decoder)

    def decode_given(self, features: ImageFeatures, mask_B1SS: Tensor) -> Decoded:
        """Take a person's mask (B, 1, S, S), 0 or 1, as the answer; an empty one says "not here".

        The pointer is read from a single-mask decoding with the mask as dense prompt (SAM 2's "mask as output").
        """
        logits_B1SS = (mask_B1SS * 2 - 1) * GIVEN_LOGIT
        # In float32: torch has no antialiased resize in bfloat16 on a CPU.
        low_res_B1hw = F.interpolate(
            logits_B1SS.float(), size=self._low_res_size(features), mode="bilinear", align_corners=False, antialias=True
        ).to(logits_B1SS.dtype)
        visible_B = mask_B1SS.flatten(1).any(1)
        pointer_BC = None
        if isinstance(self.readout, AttentionReadout):
            weight_dtype = self.no_memory_embedding.dtype
            dense_BCHW = self.prompt_encoder.mask_embed(self.readout.mask_downsample(mask_B1SS.to(weight_dtype)))
            prompts_BNC = self._no_points(len(mask_B1SS))
            answer = self._decode(features, features.coarse_BCHW, prompts_BNC, dense_BCHW, multimask=False)
            assert answer.pointer_BC is not None
            pointer_BC = torch.where(visible_B[:, None], answer.pointer_BC, self.readout.no_object_pointer)
        num_candidates = self.mask_decoder.num_multimask_outputs
        iou_BM = low_res_B1hw.new_full((len(mask_B1SS), num_candidates), float("nan"))
        iou_BM[:, 0] = 1.0
        score_B = (visible_B.to(low_res_B1hw.dtype) * 2 - 1) * GIVEN_LOGIT
        return Decoded(low_res_B1hw, low_res_B1hw.expand(-1, num_candidates, -1, -1), iou_BM, score_B, pointer_BC)

    def remember(self, features: ImageFeatures, decoded: Decoded) -> MemoryEntry:
        """Encode an answer into memory, by way of its low-resolution logits at the input's size."""
        size = [4 * self.config.stride // 4 * n for n in features.coarse_BCHW.shape[-2:]]
        logits_B1SS = F.interpolate(decoded.low_res_B1hw.float(), size=size, mode="bilinear", align_corners=False)
        logits_B1SS = logits_B1SS.to(features.coarse_BCHW.dtype)
        return self.readout.remember(features, logits_B1SS, decoded.visible_B, decoded.pointer_BC)

    def _decode(
        self,
        features: ImageFeatures,
        coarse_BCHW: Tensor,
        prompts_BNC: Tensor,
        dense_BCHW: Tensor | None = None,
        multimask: bool = True,
        mask_decoder: nn.Module | None = None,
    ) -> Decoded:
        if dense_BCHW is None:
            dense_BCHW = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(coarse_BCHW)
        masks, iou, tokens, score = (self.mask_decoder if mask_decoder is None else mask_decoder)(
            image_embeddings=coarse_BCHW,
            image_positional_embeddings=self._position_of(coarse_BCHW),
            sparse_prompt_embeddings=prompts_BNC[:, None],
            dense_prompt_embeddings=dense_BCHW,
            multimask_output=multimask,
            high_resolution_features=[features.fine_BCHW, features.middle_BCHW],
        )
        masks_BMhw, iou_BM, tokens_BMC, score_B = masks[:, 0], iou[:, 0], tokens[:, 0], score[:, 0, 0]
        rows = torch.arange(len(masks_BMhw), device=masks_BMhw.device)
        best_B = iou_BM.argmax(-1)
        visible_B = score_B > 0
        low_res_B1hw = masks_BMhw[rows, best_B][:, None]
        low_res_B1hw = torch.where(visible_B[:, None, None, None], low_res_B1hw, ABSENT_LOGIT)
        pointer_BC = None
        if isinstance(self.readout, AttentionReadout):
            # A single-mask answer may come from any candidate by stability; its pointer is always token 0's.
            pointer_BC = self.readout.pointer(tokens_BMC[rows, best_B if multimask else 0], visible_B)
        return Decoded(low_res_B1hw, masks_BMhw, iou_BM, score_B, pointer_BC)

    def _no_points(self, num_objects: int) -> Tensor:
        return self.prompt_encoder.not_a_point_embed.weight.expand(2, -1)[None].expand(num_objects, -1, -1)

    def _position_of(self, coarse_BCHW: Tensor) -> Tensor:
        table, (batch, _, height, width) = self.shared_image_embedding.positional_embedding, coarse_BCHW.shape
        position_1CHW = self._derived.fetch("position", [table], lambda: self._position(height, width), height, width)
        return position_1CHW.to(coarse_BCHW.device, coarse_BCHW.dtype).expand(batch, -1, -1, -1)

    def _position(self, height: int, width: int) -> Tensor:
        table = self.shared_image_embedding.positional_embedding
        y = (torch.arange(height, device=table.device, dtype=table.dtype) + 0.5) / height
        x = (torch.arange(width, device=table.device, dtype=table.dtype) + 0.5) / width
        grid_HW2 = torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
        position_1CHW: Tensor = self.shared_image_embedding(grid_HW2).permute(2, 0, 1)[None]
        return position_1CHW

    def _low_res_size(self, features: ImageFeatures) -> tuple[int, int]:
        height, width = features.coarse_BCHW.shape[-2:]
        return 4 * height, 4 * width
