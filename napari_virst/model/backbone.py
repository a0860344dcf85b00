"""A small convolutional image encoder with the face of SAM 2's Hiera backbone.

Shape legend: B batch, C channels, H W height and width in cells of a level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModelOutput


class ConvBackboneConfig(PreTrainedConfig):
    """Sizes of :class:`ConvBackbone`: output channels at strides 2, 4, 8 and 16, and residual blocks per stage."""

    model_type = "virst_conv_backbone"

    def __init__(
        self,
        num_channels_per_stage: list[int] | None = None,
        num_blocks_per_stage: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_channels_per_stage = list(num_channels_per_stage or [24, 48, 80, 160])
        self.num_blocks_per_stage = list(num_blocks_per_stage or [0, 1, 1, 2])
        super().__init__(**kwargs)


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Return a group norm of 8 groups, or of one where 8 does not divide the channels."""
    return nn.GroupNorm(8 if num_channels % 8 == 0 else 1, num_channels)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with group norm around a shortcut; starts as the shortcut alone."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = group_norm(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, out_channels, H / stride, W / stride)."""
        y_BCHW = self.norm1(self.conv1(x_BCHW)).relu()
        return (self.shortcut(x_BCHW) + self.norm2(self.conv2(y_BCHW))).relu()


class ConvBackbone(PreTrainedModel):
    """Maps at strides 2, 4, 8 and 16, channels last, as the neck of SAM 2's vision encoder expects them."""

    config_class = ConvBackboneConfig
    _supports_sdpa = True  # it has no attention at all; without this an enclosing model cannot ask for sdpa
    main_input_name = "pixel_values"

    def __init__(self, config: ConvBackboneConfig) -> None:
        super().__init__(config)
        channels, blocks = config.num_channels_per_stage, config.num_blocks_per_stage
        self.stem = nn.Sequential(nn.Conv2d(3, channels[0], 5, 2, 2, bias=False), group_norm(channels[0]), nn.ReLU())
        self.stages = nn.ModuleList()
        for previous, current, num_blocks in zip(channels, channels[1:], blocks[1:], strict=False):
            rest = [ResidualBlock(current, current) for _ in range(num_blocks - 1)]
            self.stages.append(nn.Sequential(ResidualBlock(previous, current, 2), *rest))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution."""
        return self.stem[0]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, ResidualBlock):
            nn.init.zeros_(module.norm2.weight)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> Sam2HieraDetModelOutput:
        """Encode normalised pixels (B, 3, H, W) float into four maps (B, H/s, W/s, C_s), s = 2, 4, 8, 16."""
        x_BCHW = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        maps = [x_BCHW.permute(0, 2, 3, 1)]
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW.permute(0, 2, 3, 1))
        return Sam2HieraDetModelOutput(last_hidden_state=maps[-1], intermediate_hidden_states=tuple(maps))


AutoConfig.register("virst_conv_backbone", ConvBackboneConfig, exist_ok=True)
AutoModel.register(ConvBackboneConfig, ConvBackbone, exist_ok=True)
