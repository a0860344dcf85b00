"""Sizes of the segmenter: SAM 2.1 as published, or the same parts made small."""

from __future__ import annotations

from typing import Any, Literal

from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig, Sam2VideoPromptEncoderConfig
from transformers.configuration_utils import PreTrainedConfig

from napari_virst.model.backbone import ConvBackboneConfig

MemoryReadout = Literal["attention", "affinity"]


class SegmenterConfig(PreTrainedConfig):
    """Configuration of :class:`~napari_virst.model.segmenter.Segmenter`.

    Parameters
    ----------
    sam2_config
        Sizes of the image encoder, prompt encoder, mask decoder and (for the attention readout) memory.
    memory_readout
        How a frame reads its memory. ``"attention"``: SAM 2's memory attention with object pointers.
        ``"affinity"``: keys from the image alone, shared by query and memory, a learned distance bias, the mask
        only in the values; learns from scratch many times faster (``docs/decisions/0003-memory-readout.md``).
    affinity_num_heads, affinity_key_dim, affinity_value_dim
        Sizes of the affinity readout; the dims are per head.
    round_memory_to_bf16
        Store memory features rounded to bfloat16, as the published code does.
    """

    model_type = "virst_segmenter"

    def __init__(
        self,
        sam2_config: Sam2VideoConfig | dict[str, Any] | None = None,
        memory_readout: MemoryReadout = "attention",
        affinity_num_heads: int = 4,
        affinity_key_dim: int = 32,
        affinity_value_dim: int = 48,
        round_memory_to_bf16: bool = False,
        **kwargs: Any,
    ) -> None:
        self.sam2_config = sam2_config if isinstance(sam2_config, Sam2VideoConfig) else _sam2_config(sam2_config or {})
        self.memory_readout = memory_readout
        self.affinity_num_heads = affinity_num_heads
        self.affinity_key_dim = affinity_key_dim
        self.affinity_value_dim = affinity_value_dim
        self.round_memory_to_bf16 = round_memory_to_bf16
        super().__init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.sam2_config.image_size)

    @property
    def stride(self) -> int:
        """Pixels per cell of the map that memory and prompts act on."""
        return int(self.sam2_config.prompt_encoder_config.patch_size)

    @property
    def num_channels(self) -> int:
        """Channels of that map, and of prompts."""
        return int(self.sam2_config.vision_config.fpn_hidden_size)

    @classmethod
    def compact(cls, image_size: int = 160) -> SegmenterConfig:
        """Return the sizes of the bundled model: a convolutional encoder at strides 2, 4, 8 and 16, affinity memory."""
        channels, stride = 128, 8
        backbone = ConvBackboneConfig()
        cells = image_size // stride
        sam2 = _sam2_config(
            {
                "image_size": image_size,
                "vision_config": {
                    "model_type": "sam2_vision_model",
                    "backbone_config": backbone.to_dict(),
                    "backbone_channel_list": backbone.num_channels_per_stage[::-1],
                    "backbone_feature_sizes": [[cells * 4] * 2, [cells * 2] * 2, [cells] * 2],
                    "fpn_hidden_size": channels,
                    "fpn_top_down_levels": [2, 3],
                    "num_feature_levels": 3,
                },
                "prompt_encoder_config": {"hidden_size": channels, "image_size": image_size, "patch_size": stride},
                "mask_decoder_config": {
                    "hidden_size": channels,
                    "mlp_dim": 256,
                    "num_attention_heads": 4,
                    "iou_head_hidden_dim": 128,
                },
                "memory_attention_rope_feat_sizes": [cells, cells],
            }
        )
        return cls(sam2_config=sam2, memory_readout="affinity")


def _sam2_config(sizes: dict[str, Any]) -> Sam2VideoConfig:
    """Build the parts by hand: transformers 5.17 reads a decoder's dictionary as a prompt encoder's."""
    parts = {"prompt_encoder_config": Sam2VideoPromptEncoderConfig, "mask_decoder_config": Sam2VideoMaskDecoderConfig}
    built = {name: kind(**sizes[name]) for name, kind in parts.items() if isinstance(sizes.get(name), dict)}
    return Sam2VideoConfig(**{**sizes, **built})
