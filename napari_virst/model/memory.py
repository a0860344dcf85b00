"""Anchor memory and FIFO memory of the objects that travel together through one video.

The only state of propagation: bounded by the number of anchors, P memories and 15 pointers, whatever the length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_virst.model.anchors import Direction, MemorySelection, select_memory
from napari_virst.model.readout import MemoryEntry, MemoryView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ObjectMemory:
    """What has been remembered, and what a frame may read of it.

    Parameters
    ----------
    num_frames
        Length of the video; sets the scale of pointer distances as published.
    max_anchors
        α, the most anchors one frame reads.
    num_fifo_frames
        P, the most recent frames one frame reads.
    max_pointers
        Reach of object pointers in frames, the present frame counted (16 in the published model).
    prefer_user_anchors
        Whether user anchors win ties and the nearest of them is always read; False reproduces the published rule.
    """

    def __init__(
        self,
        num_frames: int,
        *,
        max_anchors: int = 3,
        num_fifo_frames: int = 6,
        max_pointers: int = 16,
        prefer_user_anchors: bool = True,
    ) -> None:
        self.max_anchors, self.num_fifo_frames = max_anchors, num_fifo_frames
        self.pointer_reach = min(num_frames, max_pointers)
        self._prefer_user_anchors = prefer_user_anchors
        self._anchors: dict[int, MemoryEntry] = {}
        self._user_anchors: set[int] = set()
        self._tracked: dict[int, MemoryEntry] = {}

    @property
    def anchor_frames(self) -> tuple[int, ...]:
        """Frames held as anchors, in order."""
        return tuple(sorted(self._anchors))

    @property
    def tracked_frames(self) -> tuple[int, ...]:
        """Followed frames that can still be read."""
        return tuple(self._tracked)

    def add_anchor(self, frame: int, entry: MemoryEntry, *, is_user: bool = False) -> None:
        """Hold a frame as conditioning memory, replacing what was known of it."""
        self._anchors[frame] = entry
        self._tracked.pop(frame, None)
        (self._user_anchors.add if is_user else self._user_anchors.discard)(frame)

    def remove_anchor(self, frame: int) -> None:
        """Forget an anchor."""
        self._anchors.pop(frame, None)
        self._user_anchors.discard(frame)

    def add_tracked(self, frame: int, entry: MemoryEntry) -> None:
        """Hold a followed frame until it is out of reach."""
        self._tracked[frame] = entry
        reach = max(self.num_fifo_frames, self.pointer_reach - 1)
        for old in [f for f in self._tracked if abs(f - frame) >= max(1, reach)]:
            del self._tracked[old]

    def forget_tracked(self) -> None:
        """Empty the FIFO memory, at the start of a new leg."""
        self._tracked.clear()

    def select(self, frame: int, direction: Direction = 1) -> MemorySelection:
        """Choose the frames that ``frame`` reads."""
        return select_memory(
            frame,
            self._anchors.keys(),
            self._tracked.keys(),
            max_anchors=self.max_anchors,
            num_fifo_frames=self.num_fifo_frames,
            num_pointer_frames=self.pointer_reach,
            direction=direction,
            user_anchors=self._user_anchors if self._prefer_user_anchors else frozenset(),
        )

    def view(self, frame: int, direction: Direction = 1) -> MemoryView:
        """Gather the memories that ``frame`` reads."""
        chosen = self.select(frame, direction)
        pointers: list[tuple[Tensor, int | tuple[int, ...]]] = []
        for other in chosen.pointers:
            pointer = self._entry(other).pointer_BC
            if pointer is not None:
                pointers.append((pointer, (frame - other) * direction))
        return MemoryView(
            anchors=[self._anchors[f] for f in chosen.anchors],
            recent=[(self._entry(f), (frame - f) * direction) for f in chosen.recent],
            pointers=pointers,
            pointer_range=self.pointer_reach - 1,
        )

    def _entry(self, frame: int) -> MemoryEntry:
        return self._anchors[frame] if frame in self._anchors else self._tracked[frame]


# Objects that travel together ----------------------------------------------------------------------------------------


def group_alike(views: Sequence[MemoryView]) -> list[list[int]]:
    """Return positions of views that can be read as one batch: as many memories of each kind, equally recent.

    How far away the anchors and pointers are may differ.
    """
    groups: dict[tuple[int, tuple[int, ...], int], list[int]] = {}
    for position, view in enumerate(views):
        key = len(view.anchors), tuple(distance for _, distance in view.recent), len(view.pointers)
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def join_views(views: Sequence[MemoryView]) -> MemoryView:
    """Join views that are alike, of one object each, into the view of a batch."""
    if len(views) == 1:
        return views[0]
    pointers: list[tuple[Tensor, int | tuple[int, ...]]] = []
    for slots in zip(*(view.pointers for view in views), strict=True):
        distances = [d for _, distance in slots for d in (distance if isinstance(distance, tuple) else (distance,))]
        pointers.append((torch.cat([pointer for pointer, _ in slots]), tuple(distances)))
    return MemoryView(
        anchors=[_join(entries) for entries in zip(*(view.anchors for view in views), strict=True)],
        recent=[
            (_join([entry for entry, _ in slots]), slots[0][1])
            for slots in zip(*(view.recent for view in views), strict=True)
        ],
        pointers=pointers,
        pointer_range=views[0].pointer_range,
    )


def split_entry(entry: MemoryEntry) -> list[MemoryEntry]:
    """Split the memory of a batch into one memory for each object."""

    def row(x: Tensor | None, number: int) -> Tensor | None:
        return None if x is None else x[number : number + 1]

    return [
        MemoryEntry(entry.features[n : n + 1], row(entry.keys, n), row(entry.pointer_BC, n))
        for n in range(len(entry.features))
    ]


def _join(entries: Sequence[MemoryEntry]) -> MemoryEntry:
    def cat(parts: list[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return torch.cat(known) if known else None

    return MemoryEntry(
        torch.cat([e.features for e in entries]), cat([e.keys for e in entries]), cat([e.pointer_BC for e in entries])
    )
