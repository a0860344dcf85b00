"""The eyes of the language side: UMT video encoder, token merging, projector.

Shape legend: B clips, T frames of a clip, C channels, H W pixels, N tokens of a clip (frame-major, then row-major),
G heads, E channels of a head or key, P pooled pixels of a cell, X frames, W waves, S source tokens, R merged source
tokens, D width of the language model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_virst.model.trace_cue import TraceCue

if TYPE_CHECKING:
    from napari_virst.model.config import VideoTowerConfig


def sinusoid_table(num_positions: int, num_channels: int) -> Tensor:
    """Return (num_positions, num_channels) float32: sines on even channels, cosines on odd ones, base 10 000."""
    channel = np.arange(num_channels)
    angle = np.arange(num_positions)[:, None] / 10000.0 ** (2 * (channel // 2) / num_channels)
    return torch.from_numpy(np.where(channel % 2, np.cos(angle), np.sin(angle)).astype(np.float32))


def position_table(config: VideoTowerConfig) -> Tensor:
    """Return the fixed positions (N, C) float32 of one clip.

    One sinusoid runs over all cells of a clip at ``position_grid``; each frame's grid is then resized bicubically to
    the patch grid.
    """
    frames, grid, channels = config.num_frames_per_clip, config.position_grid, config.hidden_size
    table_NC = sinusoid_table(frames * grid * grid, channels)
    if config.patch_grid == grid:
        return table_NC
    table_TCHW = table_NC.view(frames, grid, grid, channels).permute(0, 3, 1, 2)
    table_TCHW = F.interpolate(table_TCHW, size=(config.patch_grid,) * 2, mode="bicubic", align_corners=False)
    return table_TCHW.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()


class PatchEmbedding(nn.Module):
    """One token per patch and frame."""

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        kernel = (1, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.hidden_size, kernel, stride=kernel)

    def forward(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return (B, N, C)."""
        pixels_BCTHW = pixels_BTCHW.transpose(1, 2).to(self.proj.weight.dtype)
        return self.proj(pixels_BCTHW).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention over a clip, with a bias on queries and values only."""

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return (B, N, C)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x_BNC, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        q_BGNE, k_BGNE, v_BGNE = qkv.permute(2, 0, 3, 1, 4)
        x_BGNE = F.scaled_dot_product_attention(q_BGNE, k_BGNE, v_BGNE)
        return self.proj(x_BGNE.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        hidden = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, hidden)
        self.fc2 = nn.Linear(hidden, config.hidden_size)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return (B, N, C)."""
        return self.fc2(F.gelu(self.fc1(x_BNC)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return (B, N, C)."""
        x_BNC = x_BNC + self.attn(self.norm1(x_BNC))
        return x_BNC + self.mlp(self.norm2(x_BNC))


class MotionCue(nn.Module):
    """Where each cell's content goes to in the next frame, and came from: told to the tokens from the start.

    Not in the published tower, which learned motion from millions of clips. A small one does not get there: after 150
    steps of naming the course of objects in 32 clips each it was still at chance, since one sinusoid over all cells
    makes "the same thing, two cells to the left" hard to say. Here cells of neighbouring frames are compared by their
    pixels; nearer cells are preferred, so that plain ground stays where it is. With the start values below, and nothing
    learned, the larger component of the step tells the course of moving objects in 65 of 100 tokens (chance: 25).
    """

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        self.grid = config.patch_grid
        self.key = nn.Linear(3 * _POOLED_PER_CELL**2, config.motion_key_dim, bias=False)
        nn.init.orthogonal_(self.key.weight)
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        self.locality = nn.Parameter(torch.tensor(3.0))
        self.tell = nn.Linear(_CUES_PER_SIDE * 2, config.hidden_size)

    def forward(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return (B, N, C), to be added to the tokens of the clips."""
        keys_BTNE = self._keys(pixels_BTCHW)
        here, there = keys_BTNE[:, :-1], keys_BTNE[:, 1:]
        onward = F.pad(self._compare(here, there), (0, 0, 0, 0, 0, 1))
        back = F.pad(self._compare(there, here), (0, 0, 0, 0, 1, 0))
        cues: Tensor = self.tell(torch.cat([onward, back], dim=-1).flatten(1, 2))
        return cues

    def _keys(self, pixels_BTCHW: Tensor) -> Tensor:
        """(B, T, N, E): what each cell looks like, against the mean of the clip."""
        pooled = F.adaptive_avg_pool2d(pixels_BTCHW.flatten(0, 1), self.grid * _POOLED_PER_CELL)
        cells_XPN = F.unfold(pooled, _POOLED_PER_CELL, stride=_POOLED_PER_CELL)
        keys_BTNE = self.key(cells_XPN.transpose(1, 2).to(self.key.weight.dtype)).unflatten(0, pixels_BTCHW.shape[:2])
        keys_BTNE = keys_BTNE - keys_BTNE.mean((1, 2), keepdim=True)
        return keys_BTNE / (keys_BTNE.norm(dim=-1, keepdim=True) + _PLAIN)

    def _compare(self, from_BTNE: Tensor, to_BTNE: Tensor) -> Tensor:
        """(B, T - 1, N, 4): mean step (y, x) of each cell in eighths of a side, how alike the match is, and 1."""
        axis = torch.linspace(0, 1, self.grid, device=from_BTNE.device, dtype=from_BTNE.dtype)
        places_N2 = torch.cartesian_prod(axis, axis)
        alike_BTNN = from_BTNE @ to_BTNE.transpose(-1, -2)
        away_NN = (places_N2[:, None] - places_N2).square().sum(-1)
        weights_BTNN = (self.sharpness.exp() * alike_BTNN - self.locality.exp() * away_NN).softmax(-1)
        step_BTN2 = weights_BTNN @ places_N2 - places_N2
        match_BTN1 = (weights_BTNN * alike_BTNN).sum(-1, keepdim=True)
        return torch.cat([8 * step_BTN2, match_BTN1, torch.ones_like(match_BTN1)], dim=-1)


class PlaceCue(nn.Module):
    """Where and when each token was, told to the tokens before they are merged.

    Not in the published tower, whose one sinusoid over all cells a large model reads. In the small one the ST tokens
    found the visual tokens of what was asked for in half of the clips about change, events and division, but its place
    did not reach the prompts: masks had a J of 0.15 there.
    """

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        with torch.device("cpu"):  # not a buffer, for the reason told in VideoTower
            axis = torch.linspace(0, 1, config.patch_grid)
            time_T = torch.linspace(0, 1, config.num_frames_per_clip)
            places_N3 = torch.cartesian_prod(time_T, axis, axis)
        waves = [torch.pi * frequency * places_N3 for frequency in _PLACE_FREQUENCIES]
        self.waves_NW = torch.cat([wave for turn in waves for wave in (turn.sin(), turn.cos())], dim=1)
        self.tell = nn.Linear(self.waves_NW.shape[1], config.hidden_size, bias=False)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the tokens (B, N, C) of whole clips with their places."""
        told_NC: Tensor = self.tell(self.waves_NW.to(self.tell.weight))
        return x_BNC + told_NC


_PLACE_FREQUENCIES = (1, 2, 4)
_CUES_PER_SIDE = 4
_POOLED_PER_CELL = 3
_PLAIN = 0.3
"""Length of a key, in standard deviations of a pixel, below which a cell counts as plain ground."""


class VideoTower(nn.Module):
    """UMT: joint attention over the frames of a clip. Submodules are named as in the published checkpoint."""

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.motion_cue = MotionCue(config) if config.motion_key_dim else None
        self.trace_cue = TraceCue(config) if config.has_trace_cue else None
        self.place_cue = PlaceCue(config) if config.has_place_cue else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.vision_layernorm = nn.LayerNorm(config.hidden_size, eps=config.final_layer_norm_eps)
        # Not a buffer: transformers builds a model on the meta device before it loads weights, and what is not in the
        # file would stay empty. The copy to the device is 13 MB at the published sizes.
        with torch.device("cpu"):
            self.positions_NC = position_table(config)

    def embed(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return the tokens (B, N, C) that enter the first block: patches with their positions."""
        x_BNC = self.patch_embed(pixels_BTCHW)
        embedded_BNC = x_BNC + self.positions_NC.to(x_BNC)
        if self.motion_cue is not None:
            embedded_BNC = embedded_BNC + self.motion_cue(pixels_BTCHW)
        return embedded_BNC

    def forward(self, pixels_BTCHW: Tensor) -> Tensor:
        """Encode clips.

        Parameters
        ----------
        pixels_BTCHW
            (B, num_frames_per_clip, 3, image_size, image_size) float, normalised.

        Returns
        -------
        Tensor
            (B, N, hidden_size) float; N = num_frames_per_clip · patch_grid², frame-major, then row-major.
        """
        x_BNC = self.embed(pixels_BTCHW)
        for block in self.blocks:
            x_BNC = block(x_BNC)
        x_BNC = self.vision_layernorm(x_BNC)
        if self.trace_cue is not None:
            x_BNC = x_BNC + self.trace_cue(pixels_BTCHW)
        return x_BNC if self.place_cue is None else self.place_cue(x_BNC)


def merge_tokens(x_BNC: Tensor, num_tokens: int, num_heads: int, *, num_riders: int = 0) -> tuple[Tensor, Tensor]:
    """Merge similar tokens until ``num_tokens`` are left (ToMe).

    In each round the tokens at even places are sources, those at odd places targets. Every source looks for the most
    similar target; at most half of the tokens, the most similar sources first, are averaged into theirs. What is left
    is the unmerged sources in falling similarity, then all targets.

    Parameters
    ----------
    x_BNC
        (B, N, C) float; C a multiple of ``num_heads``.
    num_tokens
        Tokens to keep; where N is not larger, nothing happens.
    num_heads
        Chunks of a token that are averaged before tokens are compared.
    num_riders
        Last channels of C that are averaged like the others, but have no say in which tokens are similar.

    Returns
    -------
    merged
        (B, min(N, num_tokens), C) float: means over the tokens that were merged.
    sizes
        (B, min(N, num_tokens), 1) float32: how many tokens each mean is of.
    """
    size_BN1 = torch.ones_like(x_BNC[..., :1], dtype=torch.float32)
    while (num_left := x_BNC.shape[1]) > num_tokens:
        num_merged = min(num_left // 2, num_left - num_tokens)
        matched_BNC = x_BNC[..., : x_BNC.shape[-1] - num_riders]
        x_BNC, size_BN1 = _merge_round(x_BNC, size_BN1, num_merged, _match(matched_BNC.detach(), num_heads))
    return x_BNC, size_BN1


def _merge_round(
    x_BNC: Tensor, size_BN1: Tensor, num_merged: int, match: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    order_BS1, target_BS1 = match
    source_BR1, kept = order_BS1[:, :num_merged], order_BS1[:, num_merged:]
    target_BR1 = target_BS1.gather(1, source_BR1)

    def merge(values_BNX: Tensor) -> Tensor:
        """Add every source to its target, and leave it out."""
        even, odd = values_BNX[:, ::2], values_BNX[:, 1::2]
        width = (-1, -1, values_BNX.shape[-1])
        odd = odd.scatter_add(1, target_BR1.expand(*width), even.gather(1, source_BR1.expand(*width)))
        return torch.cat([even.gather(1, kept.expand(*width)), odd], dim=1)

    merged_size_BN1 = merge(size_BN1)
    return (merge(x_BNC * size_BN1) / merged_size_BN1).to(x_BNC.dtype), merged_size_BN1


def _match(x_BNC: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """Return the sources in falling similarity (B, S, 1), and the target each of them would join (B, S, 1)."""
    metric = F.normalize(x_BNC.float().unflatten(-1, (num_heads, -1)).mean(2), dim=-1)
    best_BS, target_BS = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)
    # Stable: repeated frames tie exactly, and the same video must give the same tokens.
    order_BS = best_BS.argsort(dim=-1, descending=True, stable=True)
    return order_BS[..., None], target_BS[..., None]


class Projector(nn.Module):
    """Merge the tokens of each clip and carry them into the width of the language model."""

    def __init__(self, config: VideoTowerConfig, hidden_size: int) -> None:
        super().__init__()
        self.num_tokens = config.num_tokens_per_clip
        self.num_heads = config.num_attention_heads
        self.mlp = nn.Sequential(
            nn.Linear(config.hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Turn the tower's tokens (B, N, C) float into (B, num_tokens_per_clip, D) float."""
        merged_BNC, _ = merge_tokens(x_BNC, self.num_tokens, self.num_heads)
        return self.mlp(merged_BNC)
