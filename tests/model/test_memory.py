from __future__ import annotations

import torch

from napari_virst.model.memory import ObjectMemory
from napari_virst.model.readout import MemoryEntry


def entry(value: float = 0.0) -> MemoryEntry:
    return MemoryEntry(torch.full((1, 1), value), torch.zeros(1, 1), torch.full((1, 2), value))


def test_memory_does_not_grow_with_the_video():
    memory = ObjectMemory(10_000)
    memory.add_anchor(0, entry())
    for frame in range(1, 2_000):
        memory.add_tracked(frame, entry())
    assert len(memory.tracked_frames) <= 15


def test_what_the_next_frame_reads_is_still_held():
    memory = ObjectMemory(100)
    memory.add_anchor(0, entry())
    for frame in range(1, 41):
        memory.add_tracked(frame, entry(frame))
    view = memory.view(41)
    assert [distance for _, distance in view.recent] == [6, 5, 4, 3, 2, 1]
    assert [distance for _, distance in view.pointers] == [41, *range(1, 16)]


def test_user_anchor_replaces_a_tracked_frame():
    memory = ObjectMemory(10)
    memory.add_anchor(0, entry())
    memory.add_tracked(3, entry(1.0))
    memory.add_anchor(3, entry(2.0), is_user=True)
    assert memory.anchor_frames == (0, 3)
    assert memory.tracked_frames == ()


def test_removed_anchor_is_never_read_again():
    memory = ObjectMemory(10)
    memory.add_anchor(0, entry())
    memory.add_anchor(5, entry())
    memory.remove_anchor(5)
    assert memory.select(6).anchors == (0,)


def test_anchors_ahead_give_no_pointer():
    memory = ObjectMemory(10)
    memory.add_anchor(8, entry())
    assert memory.view(4).pointers == []
    assert [distance for _, distance in memory.view(9, -1).pointers] == []
    assert [distance for _, distance in memory.view(4, -1).pointers] == [4]
