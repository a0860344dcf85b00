from __future__ import annotations

import pytest
import torch

from napari_virst.model.memory import ObjectMemory, group_alike, join_views, split_entry
from napari_virst.model.readout import MemoryEntry, MemoryView


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


# Objects that travel together -----------------------------------------------------------------------------------------


def entry_of(value: float, pointer: bool = True) -> MemoryEntry:
    return MemoryEntry(
        torch.full((1, 2, 3, 3), value),
        torch.full((1, 2, 3, 3), -value),
        torch.full((1, 4), value) if pointer else None,
    )


def view_of(value: float, num_anchors: int = 2, recent: tuple[int, ...] = (2, 1), pointers: tuple[int, ...] = (7, 1)):
    return MemoryView(
        anchors=[entry_of(value + n) for n in range(num_anchors)],
        recent=[(entry_of(value), distance) for distance in recent],
        pointers=[(torch.full((1, 4), value), distance) for distance in pointers],
        pointer_range=15,
    )


def test_views_are_grouped_by_what_must_be_alike_to_be_read_together():
    views = [view_of(0), view_of(1, num_anchors=1), view_of(2, pointers=(3, 1)), view_of(3, recent=(1,)), view_of(4)]
    assert group_alike(views) == [[0, 2, 4], [1], [3]]


def test_joined_views_keep_each_objects_memory_and_distance():
    joined = join_views([view_of(0, pointers=(7, 1)), view_of(5, pointers=(3, 1))])
    assert [entry.features[:, 0, 0, 0].tolist() for entry in joined.anchors] == [[0, 5], [1, 6]]
    assert [(len(entry.features), distance) for entry, distance in joined.recent] == [(2, 2), (2, 1)]
    assert [distance for _, distance in joined.pointers] == [(7, 3), (1, 1)]


def test_view_of_one_object_is_not_copied():
    view = view_of(1)
    assert join_views([view]) is view


@pytest.mark.parametrize("pointer", [True, False], ids=["pointer", "none"])
def test_memory_of_a_batch_splits_into_its_objects(pointer):
    rows = [entry_of(value, pointer) for value in (1.0, 2.0)]
    batch = MemoryEntry(
        torch.cat([e.features for e in rows]),
        torch.cat([e.keys for e in rows]),
        torch.cat([e.pointer_BC for e in rows]) if pointer else None,
    )
    for found, row in zip(split_entry(batch), rows, strict=True):
        assert torch.equal(found.features, row.features)
        assert torch.equal(found.keys, row.keys)
        assert (found.pointer_BC is None) == (not pointer)
