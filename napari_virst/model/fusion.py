"""ST-Fusion: where words and pixels meet, before (initial fusion) and after (prompter) the language model.

Shape legend: B videos, S ST tokens, T frames, C channels of the segmenter's map, h w cells of that map, D width of the
language model, M memory cells (time-major, then row-major), Q queries (token-major, then time), G heads,
E channels of a head, F pairs of channels of a head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from napari_virst.model.config import FusionConfig


def downsampling_convolutions(num_channels: int, num_downsamples: int) -> nn.Sequential:
    """Return 3×3 convolutions of stride 2, each followed by ReLU; they sit at even places, as in the checkpoint."""
    layers: list[nn.Module] = []
    for _ in range(num_downsamples):
        layers += [nn.Conv2d(num_channels, num_channels, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class InitialFusion(nn.Module):
    """Let the ST tokens look at the video before the language model reads them."""

    def __init__(self, config: FusionConfig, hidden_size: int, num_channels: int) -> None:
        super().__init__()
        self.spatial_down = downsampling_convolutions(num_channels, config.num_downsamples)
        self.spatial_norm = nn.LayerNorm(num_channels)
        self.vision_proj = nn.Linear(num_channels, hidden_size)
        self.norm_q = nn.LayerNorm(hidden_size)
        self.norm_kv = nn.LayerNorm(hidden_size)
        self.cross_attn = nn.MultiheadAttention(hidden_size, config.num_initial_heads, batch_first=True)
        self.gate = nn.Parameter(torch.tensor(float(config.initial_gate)))

    def forward(self, st_BSD: Tensor, maps_BTChw: Tensor) -> Tensor:
        """Return the ST embeddings with what they saw added.

        Parameters
        ----------
        st_BSD
            (B, S, D) float, input embeddings of the ST tokens.
        maps_BTChw
            (B, T, C, h, w) float, the segmenter's maps without any memory embedding.

        Returns
        -------
        Tensor
            (B, S, D) float.
        """
        cells_BMC = self.spatial_norm(_cells(self.spatial_down, maps_BTChw).flatten(1, 3))
        kv_BMD = self.norm_kv(self.vision_proj(cells_BMC))
        seen_BSD, _ = self.cross_attn(self.norm_q(st_BSD), kv_BMD, kv_BMD, need_weights=False)
        return st_BSD + self.gate * seen_BSD


def rotary_split(head_size: int) -> tuple[int, int, int, int]:
    """Return how many channels of a head turn with time, y and x, and how many stay free.

    Examples
    --------
    >>> rotary_split(32)
    (10, 10, 10, 2)
    """
    per_axis = 2 * (head_size // 6)
    return per_axis, per_axis, per_axis, head_size - 3 * per_axis


def rotary_angles(positions_NA: Tensor, head_size: int) -> Tensor:
    """Return the angle (N, head_size / 2) float32 of every channel pair in radians.

    Parameters
    ----------
    positions_NA
        (N, A) integers, A ≤ 3 axes in the order time, y, x. Axes left out do not turn, nor do free channels.
    head_size
        Even number of channels of a head.
    """
    num_pairs = rotary_split(head_size)[0] // 2
    pair = torch.arange(num_pairs, device=positions_NA.device, dtype=torch.float32)
    frequency = 10000.0 ** (-pair / max(num_pairs, 1))
    angles_NF = (positions_NA[..., None].float() * frequency).flatten(1)
    return F.pad(angles_NF, (0, head_size // 2 - angles_NF.shape[1]))


def rotate_pairs(x_BGNE: Tensor, angles_NF: Tensor) -> Tensor:
    """Turn neighbouring channels (2i, 2i + 1) of (B, G, N, E) by their angles (N, E / 2)."""
    cos_NF, sin_NF = angles_NF.cos(), angles_NF.sin()
    a, b = x_BGNE[..., 0::2], x_BGNE[..., 1::2]
    turned = torch.stack([a * cos_NF - b * sin_NF, a * sin_NF + b * cos_NF], dim=-1)
    return turned.flatten(-2).to(x_BGNE.dtype)


class RotaryCrossAttention(nn.Module):
    """Cross-attention whose queries know when they are, and whose memory knows when and where it is."""

    def __init__(self, num_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = num_channels // num_heads
        if num_channels % num_heads or self.head_size % 2:
            raise InputError(
                f"num_prompter_heads must divide the {num_channels} channels into heads of even size; got {num_heads}; "
                "choose another number of heads."
            )
        self.q_proj = nn.Linear(num_channels, num_channels)
        self.k_proj = nn.Linear(num_channels, num_channels)
        self.v_proj = nn.Linear(num_channels, num_channels)
        self.o_proj = nn.Linear(num_channels, num_channels)

    def forward(
        self, queries_BQC: Tensor, memory_BMC: Tensor, q_angles_QF: Tensor, k_angles_MF: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what was read (B, Q, C) and the attention weights (B, G, Q, M)."""
        q_BGQE = rotate_pairs(self._heads(self.q_proj(queries_BQC)), q_angles_QF)
        k_BGME = rotate_pairs(self._heads(self.k_proj(memory_BMC)), k_angles_MF)
        v_BGME = self._heads(self.v_proj(memory_BMC))
        weights_BGQM = (q_BGQE @ k_BGME.transpose(-1, -2) / math.sqrt(self.head_size)).softmax(-1)
        return self.o_proj((weights_BGQM @ v_BGME).transpose(1, 2).flatten(2)), weights_BGQM

    def _heads(self, x_BNC: Tensor) -> Tensor:
        return x_BNC.unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)


class Pointer(nn.Module):
    """Reads the visual tokens once more with the finished hidden states, and adds what it finds to them.

    Not published: a language model of seven billion parameters brings the place of what it found along by itself. Of
    the small one the ST tokens knew the visual tokens they meant, but not where those were (see ``PlaceCue``).
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        self.bias = nn.Parameter(torch.tensor(-2.0))
        """Of the logits as chances of their own, in training; the softmax does not feel it."""
        self.sharpness = nn.Parameter(torch.tensor(0.0))
        nn.init.zeros_(self.value.weight)

    def forward(self, hidden_BSD: Tensor, visual_BVD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states (B, S, D), and the logits (B, V) of each visual token showing what is meant."""
        query_BD, key_BVD = self.query(hidden_BSD.mean(1)), self.key(visual_BVD)
        logits_BV = torch.einsum("bd,bvd->bv", query_BD, key_BVD) / key_BVD.shape[-1] ** 0.5
        weights_BV = (self.sharpness.exp() * logits_BV).softmax(-1)
        read_BD = self.value(torch.einsum("bv,bvd->bd", weights_BV, visual_BVD))
        return hidden_BSD + read_BD[:, None], logits_BV + self.bias


class PresenceReader(nn.Module):
    """Reads whether the video shows what is asked for off the hidden states of the ST tokens, by one layer.

    Not published. The mask decoder says so of every frame by itself; the language side has to know it of the whole
    video. With a pointer, the layer also sees how sure the surest visual token is, and all of them together.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden_size + 2, 1)

    def forward(self, hidden_BSD: Tensor, pointed_BV: Tensor | None) -> Tensor:
        """Return logits (B,); ``pointed_BV`` are the pointer's, None where there is none or nothing was shown."""
        hidden_BD = hidden_BSD.mean(1)
        sure_B2 = hidden_BD.new_zeros(len(hidden_BD), 2)
        if pointed_BV is not None:
            sure_B2 = torch.stack([pointed_BV.amax(1), pointed_BV.logsumexp(1)], 1)
        logits_B: Tensor = self.read(torch.cat([hidden_BD, sure_B2], 1))[:, 0]
        return logits_B


class PrompterLayer(nn.Module):
    """Post-norm decoder layer: the queries among themselves, then the memory, then an MLP."""

    def __init__(self, config: FusionConfig, num_channels: int) -> None:
        super().__init__()
        hidden = config.feed_forward_ratio * num_channels
        self.self_attn = nn.MultiheadAttention(num_channels, config.num_prompter_heads, batch_first=True)
        self.cross_attn = RotaryCrossAttention(num_channels, config.num_prompter_heads)
        self.ff = nn.Sequential(nn.Linear(num_channels, hidden), nn.GELU(), nn.Linear(hidden, num_channels))
        self.norm1 = nn.LayerNorm(num_channels)
        self.norm2 = nn.LayerNorm(num_channels)
        self.norm3 = nn.LayerNorm(num_channels)

    def forward(
        self, x_BQC: Tensor, memory_BMC: Tensor, q_angles_QF: Tensor, k_angles_MF: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the queries (B, Q, C) and the weights of their cross-attention (B, G, Q, M)."""
        x_BQC = self.norm1(x_BQC + self.self_attn(x_BQC, x_BQC, x_BQC, need_weights=False)[0])
        read_BQC, weights_BGQM = self.cross_attn(x_BQC, memory_BMC, q_angles_QF, k_angles_MF)
        x_BQC = self.norm2(x_BQC + read_BQC)
        return self.norm3(x_BQC + self.ff(x_BQC)), weights_BGQM


class Prompter(nn.Module):
    """Second ST-Fusion: turn the ST tokens' hidden states into prompts for every segmentation frame."""

    def __init__(self, config: FusionConfig, hidden_size: int, num_channels: int) -> None:
        super().__init__()
        self.head_size = num_channels // config.num_prompter_heads
        self.spatial_down = downsampling_convolutions(num_channels, config.num_downsamples)
        self.memory_norm = nn.LayerNorm(num_channels)
        self.seg_proj = nn.Linear(hidden_size, num_channels)
        self.decoder = nn.ModuleList(PrompterLayer(config, num_channels) for _ in range(config.num_prompter_layers))

    def forward(self, hidden_BSD: Tensor, maps_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Make ST prompts.

        Parameters
        ----------
        hidden_BSD
            (B, S, D) float, hidden states of the ST tokens.
        maps_BTChw
            (B, T, C, h, w) float, the segmenter's maps of the segmentation frames, in time order.

        Returns
        -------
        prompts
            (B, S, T, C) float: S prompt tokens for each frame.
        frame_scores
            (B, T) float, 0…1: share of the last layer's attention that falls on a cell of the frame, on average.
        """
        cells_BThwC = self.memory_norm(_cells(self.spatial_down, maps_BTChw))
        num_frames, num_tokens = cells_BThwC.shape[1], hidden_BSD.shape[1]
        k_angles_MF, q_angles_QF = self._angles(cells_BThwC.shape[1:4], num_tokens, cells_BThwC.device)
        memory_BMC = cells_BThwC.flatten(1, 3)
        x_BQC = self.seg_proj(hidden_BSD).repeat_interleave(num_frames, dim=1)
        for layer in self.decoder:
            x_BQC, weights_BGQM = layer(x_BQC, memory_BMC, q_angles_QF, k_angles_MF)
        scores_BT = weights_BGQM.mean((1, 2)).unflatten(-1, (num_frames, -1)).mean(-1)
        return x_BQC.unflatten(1, (num_tokens, num_frames)), scores_BT

    def _angles(self, grid_Thw: torch.Size, num_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        time, *_ = axes = [torch.arange(n, device=device) for n in grid_Thw]
        return (
            rotary_angles(torch.cartesian_prod(*axes), self.head_size),
            rotary_angles(time.repeat(num_tokens)[:, None], self.head_size),
        )


class BlindPrompter(nn.Module):
    """In place of the second fusion: the same prompts for every frame, from the ST tokens alone; for comparison."""

    def __init__(self, config: FusionConfig, hidden_size: int, num_channels: int) -> None:
        super().__init__()
        inner = config.feed_forward_ratio * num_channels
        self.seg_proj: nn.Module = nn.Linear(hidden_size, num_channels)
        if config.second_fusion == "mlp":
            layers = nn.Linear(hidden_size, inner), nn.GELU(), nn.Linear(inner, num_channels)
            self.seg_proj = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, hidden_BSD: Tensor, maps_BTChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return prompts (B, S, T, C) and the same score (B, T) for every frame, as :class:`Prompter` does."""
        batch, num_frames, _, height, width = maps_BTChw.shape
        prompts_BSC = self.norm(self.seg_proj(hidden_BSD))
        scores_BT = prompts_BSC.new_full((batch, num_frames), 1 / (num_frames * height * width))
        return prompts_BSC[:, :, None].expand(-1, -1, num_frames, -1), scores_BT


def build_prompter(config: FusionConfig, hidden_size: int, num_channels: int) -> Prompter | BlindPrompter:
    """Return the second fusion that the configuration asks for."""
    kind = Prompter if config.second_fusion == "attention" else BlindPrompter
    return kind(config, hidden_size, num_channels)


def _cells(spatial_down: nn.Sequential, maps_BTChw: Tensor) -> Tensor:
    """Return the downsampled maps (B, T, h', w', C)."""
    small = spatial_down(maps_BTChw.flatten(0, 1)).unflatten(0, maps_BTChw.shape[:2])
    return small.permute(0, 1, 3, 4, 2)
