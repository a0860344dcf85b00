"""Two ways to remember a frame and to read what was remembered.

Shape legend: B objects, C channels, M memory channels, H W cells of the segmenter's map, N = H·W, K heads,
S side of the square input in pixels, P pointers, X pointers of all objects (P·B), L memory tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoFeedForward,
    Sam2VideoMemoryEncoder,
    Sam2VideoPositionEmbeddingSine,
)

from napari_virst.model.backbone import ResidualBlock, group_norm
from napari_virst.model.derived import Derived, is_plain
from napari_virst.model.memory_attention import MemoryAttention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_virst.model.segmenter_config import SegmenterConfig


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder says of one frame (or window), computed once and shared by every object and query."""

    fine_BCHW: Tensor
    """(B, C/8, 4H, 4W): skip connection of the mask decoder at a quarter of the stride."""
    middle_BCHW: Tensor
    """(B, C/4, 2H, 2W): the same at half the stride."""
    coarse_BCHW: Tensor
    """(B, C, H, W): the map that prompts and memory act on."""
    keys_BKDN: Tensor | None = None
    """What reading and remembering both need of the coarse map, where it was computed already; see
    :meth:`MemoryReadout.prepare`."""

    def expand(self, num_objects: int) -> ImageFeatures:
        """Repeat a single frame's features for ``num_objects`` objects, without copying."""
        return ImageFeatures(*(x.expand(num_objects, -1, -1, -1) for x in self.levels))

    def __getitem__(self, index: slice | Tensor) -> ImageFeatures:
        return ImageFeatures(*(x[index] for x in self.levels))

    @property
    def levels(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three maps, finest first."""
        return self.fine_BCHW, self.middle_BCHW, self.coarse_BCHW


@dataclass(frozen=True)
class MemoryEntry:
    """One remembered frame of B objects."""

    features: Tensor
    """attention: (B, M, H, W). affinity: values (B, K, V, N)."""
    keys: Tensor | None = None
    """attention: position code (B, M, H, W). affinity: keys (B, K, D, N)."""
    pointer_BC: Tensor | None = None
    """Object pointer; None in the affinity readout."""


@dataclass(frozen=True)
class MemoryView:
    """What one frame reads: entries chosen by TDAU, with their distance in frames behind the reader."""

    anchors: Sequence[MemoryEntry]
    recent: Sequence[tuple[MemoryEntry, int]]
    pointers: Sequence[tuple[Tensor, int | tuple[int, ...]]]
    """Object pointers (B, C) with their distance: one for all objects, or one for each."""
    pointer_range: int
    """Distance that codes as 1.0: min(num_frames, 16) - 1 in the published model."""


class MemoryReadout(Protocol):
    """The face that both readouts share."""

    def remember(
        self, features: ImageFeatures, mask_logits_B1SS: Tensor, visible_B: Tensor, pointer_BC: Tensor | None
    ) -> MemoryEntry:
        """Encode a frame and its mask."""
        ...

    def read(self, features: ImageFeatures, view: MemoryView) -> Tensor:
        """Return the coarse map (B, C, H, W) conditioned on memory."""
        ...

    def prepare(self, features: ImageFeatures) -> ImageFeatures:
        """Compute once what both :meth:`read` and :meth:`remember` need of a frame; both do without it too."""
        ...


class FloatSine(Sam2VideoPositionEmbeddingSine):
    """SAM 2's sine position code, always computed in float32: in bfloat16 neighbouring cells share an angle."""

    def forward(
        self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: Tensor | None = None
    ) -> Tensor:
        """Return the code (B, C, H, W) in ``dtype``."""
        return super().forward(shape, device, torch.float32, mask).to(dtype)


class AttentionReadout(nn.Module):
    """SAM 2's memory encoder and memory attention with object pointers (spec: SAM 2 §4, VIRST §3.3)."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        sam2 = config.sam2_config
        self.round_to_bf16 = config.round_memory_to_bf16
        self.mask_scale, self.mask_bias = sam2.sigmoid_scale_for_mem_enc, sam2.sigmoid_bias_for_mem_enc
        self.hidden_dim, self.memory_dim = sam2.vision_config.fpn_hidden_size, sam2.memory_encoder_output_channels
        self.memory_attention = MemoryAttention(sam2)
        self.memory_encoder = Sam2VideoMemoryEncoder(sam2)
        sine = self.memory_encoder.position_encoding
        self.memory_encoder.position_encoding = FloatSine(
            sine.num_position_features, sine.temperature, sine.normalize, sine.scale
        )
        self.no_memory_positional_encoding = nn.Parameter(torch.zeros(1, 1, self.hidden_dim))
        self.memory_temporal_positional_encoding = nn.Parameter(torch.zeros(sam2.num_maskmem, 1, 1, self.memory_dim))
        self.occlusion_spatial_embedding_parameter = nn.Parameter(torch.zeros(1, self.memory_dim))
        self.no_object_pointer = nn.Parameter(torch.zeros(1, self.hidden_dim))
        self.object_pointer_proj = Sam2VideoFeedForward(self.hidden_dim, self.hidden_dim, self.hidden_dim, 3)
        self.temporal_positional_encoding_projection_layer = nn.Linear(self.hidden_dim, self.memory_dim)
        stride = max(1, config.stride // 4)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=stride, stride=stride)

    def remember(
        self, features: ImageFeatures, mask_logits_B1SS: Tensor, visible_B: Tensor, pointer_BC: Tensor | None
    ) -> MemoryEntry:
        """Encode the plain coarse map and ``sigmoid(mask) · 20 - 10``; absent objects get the no-object embedding."""
        mask_B1SS = mask_logits_B1SS.float().sigmoid() * self.mask_scale + self.mask_bias
        memory_BMHW, position_BMHW = self.memory_encoder(features.coarse_BCHW, mask_B1SS.to(features.coarse_BCHW.dtype))
        absent_B111 = (~visible_B)[:, None, None, None].to(memory_BMHW.dtype)
        memory_BMHW = memory_BMHW + absent_B111 * self.occlusion_spatial_embedding_parameter[..., None, None]
        if self.round_to_bf16:
            memory_BMHW = memory_BMHW.bfloat16().to(position_BMHW.dtype)
        return MemoryEntry(memory_BMHW, position_BMHW.expand_as(memory_BMHW), pointer_BC)

    def prepare(self, features: ImageFeatures) -> ImageFeatures:
        """Return the features as they are: reading and remembering share nothing here."""
        return features

    def pointer(self, token_BC: Tensor, visible_B: Tensor) -> Tensor:
        """Turn the chosen mask token into an object pointer (B, C); absent objects get ``no_object_pointer``."""
        return torch.where(visible_B[:, None], self.object_pointer_proj(token_BC), self.no_object_pointer)

    def read(self, features: ImageFeatures, view: MemoryView) -> Tensor:
        """Condition the coarse map on the chosen memories; pointers come last and take no rotary position."""
        coarse_BCHW = features.coarse_BCHW
        num_rows = len(self.memory_temporal_positional_encoding)
        rows = [(entry, num_rows - 1) for entry in view.anchors]
        rows += [(entry, distance - 1) for entry, distance in view.recent]
        memory = [_tokens_first(entry.features) for entry, _ in rows]
        position = [_tokens_first(entry.keys) + self.memory_temporal_positional_encoding[row, 0] for entry, row in rows]  # type: ignore[arg-type]
        num_pointer_tokens = 0
        if view.pointers:
            pointers_LBM, codes_LBM = self._pointer_tokens(view)
            memory.append(pointers_LBM)
            position.append(codes_LBM)
            num_pointer_tokens = len(pointers_LBM)
        out_1BNC = self.memory_attention(
            current_vision_features=_tokens_first(coarse_BCHW),
            current_vision_position_embeddings=_tokens_first(self._image_position(coarse_BCHW)),
            memory=torch.cat(memory),
            memory_posision_embeddings=torch.cat(position),  # transformers' spelling
            num_object_pointer_tokens=num_pointer_tokens,
        )
        return out_1BNC.reshape(*out_1BNC.shape[-3:]).transpose(1, 2).reshape(coarse_BCHW.shape)

    def _image_position(self, coarse_BCHW: Tensor) -> Tensor:
        sine = type(self.memory_encoder.position_encoding)(num_position_features=self.hidden_dim // 2, normalize=True)
        return sine(coarse_BCHW.shape, coarse_BCHW.device, coarse_BCHW.dtype).expand_as(coarse_BCHW)

    def _pointer_tokens(self, view: MemoryView) -> tuple[Tensor, Tensor]:
        pointers_PBC = torch.stack([pointer for pointer, _ in view.pointers])
        num_pointers, batch = pointers_PBC.shape[:2]
        distances = [d if isinstance(d, tuple) else (d,) * batch for _, d in view.pointers]
        distances_X = torch.tensor(distances, dtype=torch.float32, device=pointers_PBC.device).flatten()
        codes_XC = sine_code(distances_X / max(1, view.pointer_range), self.hidden_dim).to(pointers_PBC.dtype)
        codes_XM = self.temporal_positional_encoding_projection_layer(codes_XC)
        num_pieces = self.hidden_dim // self.memory_dim
        pieces_PBKM = pointers_PBC.unflatten(-1, (num_pieces, self.memory_dim))
        pointers_LBM = pieces_PBKM.transpose(1, 2).flatten(0, 1)
        codes_LBM = codes_XM.unflatten(0, (num_pointers, batch)).repeat_interleave(num_pieces, 0)
        return pointers_LBM, codes_LBM


def sine_code(positions_P: Tensor, num_channels: int, base: float = 10000.0) -> Tensor:
    """Return the sine half and the cosine half of a 1-D position code, (P, num_channels)."""
    half = num_channels // 2
    index = torch.arange(half, dtype=torch.float32, device=positions_P.device)
    wavelength = base ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    angle_PC = positions_P[:, None] / wavelength
    return torch.cat([angle_PC.sin(), angle_PC.cos()], dim=-1)


def _tokens_first(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(2).permute(2, 0, 1)


class AffinityReadout(nn.Module):
    """Attention whose query and key are the same projection of the image; the mask lives in the values alone.

    ``a = softmax(s · ⟨k(x), k(y)⟩ - w · |x - y|²)`` with unit keys, a learned sharpness s and a learned locality w per
    head, w separate for anchors and for recent frames; |x - y| in units of half the map's side.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        channels = config.num_channels
        self.num_heads, self.key_dim = config.affinity_num_heads, config.affinity_key_dim
        self.value_dim = config.affinity_value_dim
        self.key = nn.Conv2d(channels, self.num_heads * self.key_dim, 3, 1, 1)
        # 12 lets an exact match (cosine 1) outweigh 400 cells of cosine 0.5; it is learned from there.
        self.log_sharpness_K = nn.Parameter(torch.full((self.num_heads,), math.log(12.0)))
        # Heads start from "anywhere" to "next door", so that both look-alikes and fast objects have a head.
        widths = torch.linspace(0.0, 3.0, self.num_heads)
        self.log_locality_2K = nn.Parameter(torch.stack([widths - 2.0, widths - 1.5]))
        # Memories differ in worth: how long ago is coded by group (anchor, recent) as an additive bias.
        self.group_bias_2K = nn.Parameter(torch.zeros(2, self.num_heads))
        self.mask_encoder = MaskDownsampler(channels, config.stride)
        self.value = nn.Sequential(
            ResidualBlock(2 * channels, channels), nn.Conv2d(channels, self.num_heads * self.value_dim, 1)
        )
        self.output = nn.Conv2d(self.num_heads * (self.value_dim + 1), channels, 1)
        self.mix = ResidualBlock(2 * channels, channels)
        self.stride = config.stride
        self._derived = Derived()

    def prepare(self, features: ImageFeatures) -> ImageFeatures:
        """Compute the keys, with which a frame is looked up and looks up others."""
        return replace(features, keys_BKDN=self._keys_of(features))

    def keys(self, coarse_BCHW: Tensor) -> Tensor:
        """Return unit keys (B, K, D, N) of a coarse map."""
        return F.normalize(self.key(coarse_BCHW).flatten(2).unflatten(1, (self.num_heads, self.key_dim)), dim=2)

    def remember(
        self, features: ImageFeatures, mask_logits_B1SS: Tensor, visible_B: Tensor, pointer_BC: Tensor | None
    ) -> MemoryEntry:
        """Encode image and soft mask into values, the mask itself appended as one more channel per head."""
        coarse_BCHW = features.coarse_BCHW
        mask_B1SS = mask_logits_B1SS.sigmoid() * visible_B[:, None, None, None]
        value_BCHW = self.value(torch.cat([coarse_BCHW, self.mask_encoder(mask_B1SS)], 1))
        share_B11N = F.avg_pool2d(mask_B1SS, self.stride).flatten(2)[:, None]
        values_BKVN = value_BCHW.flatten(2).unflatten(1, (self.num_heads, self.value_dim))
        values_BKVN = torch.cat([values_BKVN, share_B11N.expand(-1, self.num_heads, -1, -1)], 2)
        return MemoryEntry(values_BKVN, self._keys_of(features))

    def read(self, features: ImageFeatures, view: MemoryView) -> Tensor:
        """Look every cell up in all chosen memories at once."""
        coarse_BCHW = features.coarse_BCHW
        _, _, height, width = coarse_BCHW.shape
        query_BKDN = self._keys_of(features) * self.log_sharpness_K.exp()[:, None, None]
        weights = [self.log_locality_2K, self.group_bias_2K]
        bias_2KNN = self._derived.fetch("bias", weights, lambda: self._bias(height, width), height, width)
        groups = [(entry, 0) for entry in view.anchors] + [(entry, 1) for entry, _ in view.recent]
        look_up = _look_up_by_head if is_plain(coarse_BCHW) else _look_up
        read_BKVN = look_up(query_BKDN, groups, bias_2KNN)
        read_BCHW = read_BKVN.flatten(1, 2).unflatten(-1, (height, width))
        return self.mix(torch.cat([self.output(read_BCHW), coarse_BCHW], 1))

    def _keys_of(self, features: ImageFeatures) -> Tensor:
        return self.keys(features.coarse_BCHW) if features.keys_BKDN is None else features.keys_BKDN

    def _bias(self, height: int, width: int) -> Tensor:
        """(2, K, N, N): what is added to the similarity of two cells, for anchors and for recent frames."""
        squared_NN = _squared_distance(height, width, self.log_locality_2K.device)
        return self.group_bias_2K[..., None, None] - self.log_locality_2K.exp()[..., None, None] * squared_NN


def _look_up(query_BKDN: Tensor, groups: Sequence[tuple[MemoryEntry, int]], bias_2KNN: Tensor) -> Tensor:
    """(B, K, V, N): the mean of all values, weighted by how well their keys fit; the weights in the bias's float32."""
    similarity = []
    for entry, group in groups:
        assert entry.keys is not None
        similarity.append(query_BKDN.transpose(2, 3) @ entry.keys + bias_2KNN[group])
    weights_BKNL = torch.cat(similarity, -1).softmax(-1)
    values_BKVL = torch.cat([entry.features for entry, _ in groups], -1)
    return values_BKVL @ weights_BKNL.transpose(2, 3).to(values_BKVL)


def _look_up_by_head(query_BKDN: Tensor, groups: Sequence[tuple[MemoryEntry, int]], bias_2KNN: Tensor) -> Tensor:
    """Do the same head by head in one workspace.

    A head's weights (2 to 3 MB) stay in the processor's cache and in the same memory, where those of all heads and
    objects took fresh pages from the system at every product: 5.9 in place of 16.4 ms for one object, 24.6 in place of
    73.6 for four.
    """
    batch, heads, _, cells = query_BKDN.shape
    values_BKVL = torch.cat([entry.features for entry, _ in groups], -1)
    read_BKVN = values_BKVL.new_empty(*values_BKVL.shape[:3], cells)
    weights_NL = values_BKVL.new_empty(cells, values_BKVL.shape[-1])
    parts = weights_NL.split([entry.features.shape[-1] for entry, _ in groups], -1)
    for row in range(batch):
        for head in range(heads):
            query_ND = query_BKDN[row, head].T
            for (entry, group), part_NN in zip(groups, parts, strict=True):
                assert entry.keys is not None
                torch.addmm(bias_2KNN[group, head], query_ND, entry.keys[row, head], out=part_NN)
            torch.softmax(weights_NL, -1, out=weights_NL)
            torch.mm(values_BKVL[row, head], weights_NL.T, out=read_BKVN[row, head])
    return read_BKVN


class MaskDownsampler(nn.Module):
    """Stride-2 convolutions that bring a mask (B, 1, S, S), values 0…1, to the segmenter's map."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for step in range(int(math.log2(stride))):
            wider = min(64, 8 * 3**step)
            layers += [nn.Conv2d(channels, wider, 3, 2, 1), group_norm(wider), nn.ReLU()]
            channels = wider
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, out_channels, 1))

    def forward(self, mask_B1SS: Tensor) -> Tensor:
        """Return (B, out_channels, S / stride, S / stride)."""
        return self.layers(mask_B1SS * 2 - 1)


def _squared_distance(height: int, width: int, device: torch.device) -> Tensor:
    y_N = ((torch.arange(height, device=device) + 0.5) / height * 2 - 1).repeat_interleave(width)
    x_N = ((torch.arange(width, device=device) + 0.5) / width * 2 - 1).repeat(height)
    return (y_N[:, None] - y_N[None]) ** 2 + (x_N[:, None] - x_N[None]) ** 2
