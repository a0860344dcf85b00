"""Safetensors files written one tensor at a time, so that a file of any size needs the memory of its largest tensor.

The library's own writer takes all tensors of a file at once and copies them. The format is a length (8 bytes, little
endian), a JSON header of that length, and the numbers (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

_DTYPE_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}


@dataclass(frozen=True)
class Slot:
    """One tensor of a shard, before it is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers."""
        return prod(self.shape) * self.dtype.itemsize


def cut_into_shards(slots: Sequence[Slot], max_bytes: int) -> list[list[Slot]]:
    """Cut a list of tensors into shards of at most ``max_bytes``; a larger tensor has a shard of its own."""
    shards: list[list[Slot]] = []
    room = -1
    for slot in slots:
        if slot.num_bytes > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(slot)
        room -= slot.num_bytes
    return shards


def write_shard(
    path: Path,
    slots: Sequence[Slot],
    compute: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Compute and write the tensors of one shard; the file appears under its name when it is whole.

    Parameters
    ----------
    compute
        Gives a tensor by name; its values are cast to the slot's dtype.
    metadata
        Texts for the header; ``format`` is added.
    on_bytes
        Called with the bytes of every tensor that is written.
    """
    # Wide numbers first, so that each tensor starts at a multiple of its number's size.
    ordered = sorted(slots, key=lambda slot: -slot.dtype.itemsize)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(_header(ordered, metadata))
        for slot in ordered:
            tensor = compute(slot.name).to(slot.dtype).contiguous()
            if tuple(tensor.shape) != slot.shape:
                raise ValueError(f"{slot.name} must have the shape {slot.shape}; got {tuple(tensor.shape)}")
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            on_bytes(slot.num_bytes)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def holds(path: Path, slots: Sequence[Slot], metadata: Mapping[str, str]) -> bool:
    """Whether a whole shard of exactly these tensors, made for the same purpose (``metadata``), lies at ``path``."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() == {"format": "pt", **metadata} and set(opened.keys()) == {s.name for s in slots}
    except (SafetensorError, OSError):
        return False


def _header(slots: Sequence[Slot], metadata: Mapping[str, str]) -> bytes:
    content: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for slot in slots:
        stop = start + slot.num_bytes
        content[slot.name] = {
            "dtype": _DTYPE_NAMES[slot.dtype],
            "shape": list(slot.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
