"""SAM 2's memory attention with a cross-attention that does less on a CPU; weights and names are transformers' own.

Shape legend: B objects, N cells of the map, L memory tokens, D channels of queries and keys, M memory channels,
R remembered frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention, Sam2VideoRoPEAttention

from napari_virst.model.derived import is_plain

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Sam2VideoConfig

# Weights of the attention map that are computed at once: 256 rows of 7 184 took least, 7 MB.
_NUM_WEIGHTS = 256 * 7184


class MemoryAttention(Sam2VideoMemoryAttention):
    """The same layers, with :class:`MemoryCrossAttention` in each; on a CPU one object after the other.

    What four objects pass between two products is beyond the 32 MB up to which the C library keeps memory, so that
    each of them costs fresh pages; one object's stays in the heap.
    """

    def __init__(self, config: Sam2VideoConfig) -> None:
        super().__init__(config)
        for layer in self.layers:
            layer.cross_attn_image = MemoryCrossAttention(config, kv_in_dim=64, rope_k_repeat=True)

    def forward(
        self,
        current_vision_features: Tensor,
        memory: Tensor,
        current_vision_position_embeddings: Tensor | None = None,
        memory_posision_embeddings: Tensor | None = None,
        num_object_pointer_tokens: int = 0,
    ) -> Tensor:
        """Condition the map (N, B, D) on memory (L, B, M); return (1, B, N, D)."""
        given = (
            current_vision_features,
            memory,
            current_vision_position_embeddings,
            memory_posision_embeddings,
        )
        if not is_plain(current_vision_features):
            return super().forward(*given, num_object_pointer_tokens)
        alone = ((None if tensor is None else tensor[:, i : i + 1] for tensor in given) for i in range(memory.shape[1]))
        return torch.cat([super(MemoryAttention, self).forward(*one, num_object_pointer_tokens) for one in alone], 1)


class MemoryCrossAttention(Sam2VideoRoPEAttention):
    """Cross-attention from the map to memory that weighs memory before it projects it.

    Weights of a row sum to 1, so that ``softmax(q kᵀ) (m Wᵀ + b) = (softmax(q kᵀ) m) Wᵀ + b``. Memory has 64 channels
    and values have 256: the second product costs a quarter. On a GPU the fused kernel wins, which wants values as wide
    as keys; there, in half precision and where gradients are wanted the inherited code runs.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        num_k_exclude_rope: int = 0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, 1, N, D) and, from the inherited code alone, the weights."""
        if not is_plain(query) or self.num_attention_heads != 1 or query.shape[1] != 1:
            return super().forward(query, key, value, position_embeddings, num_k_exclude_rope, **kwargs)
        cos_ND, sin_ND = (table.reshape(-1, table.shape[-1]) for table in position_embeddings)
        turns_NK = torch.complex(cos_ND[:, ::2].contiguous(), sin_ND[:, ::2].contiguous())
        query_BND = _turn(self.q_proj(query[:, 0]).mul_(self.scaling), turns_NK)
        key_BLD = _turn(self.k_proj(key[:, 0]), turns_NK, num_k_exclude_rope)
        read_BNM = _weighted_memory(query_BND, key_BLD, value[:, 0])
        return self.o_proj(self.v_proj(read_BNM))[:, None], None


def _turn(x_BLD: Tensor, turns_NK: Tensor, num_excluded: int = 0) -> Tensor:
    """Rotate pairs of channels in place, frame by frame of memory; the last ``num_excluded`` tokens are left alone."""
    num_turned = x_BLD.shape[1] - num_excluded
    if num_turned:
        pairs_BLK = torch.view_as_complex(x_BLD.unflatten(-1, (-1, 2)))[:, :num_turned]
        pairs_BLK.unflatten(1, (-1, len(turns_NK))).mul_(turns_NK)
    return x_BLD


def _weighted_memory(query_BND: Tensor, key_BLD: Tensor, memory_BLM: Tensor) -> Tensor:
    """(B, N, M): the mean of memory, weighted by how well keys fit."""
    read_BNM = query_BND.new_empty(*query_BND.shape[:2], memory_BLM.shape[-1])
    num_rows = max(16, _NUM_WEIGHTS // key_BLD.shape[1])
    for query_ND, key_LD, memory_LM, read_NM in zip(query_BND, key_BLD, memory_BLM, read_BNM, strict=True):
        for start in range(0, len(query_ND), num_rows):
            rows = slice(start, start + num_rows)
            read_NM[rows] = F.softmax(query_ND[rows] @ key_LD.T, dim=-1) @ memory_LM
    return read_BNM
