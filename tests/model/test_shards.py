"""Shards are read by the safetensors library, appear when they are whole, and are recognised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from napari_virst.model.shards import Slot, cut_into_shards, holds, write_shard

TENSORS = {
    "odd": torch.arange(7).to(torch.bfloat16),
    "scalar": torch.tensor(3.5),
    "matrix": torch.arange(6.0).view(2, 3),
    "half": torch.arange(5).half(),
    "empty": torch.zeros(0, 4),
}
SLOTS = [Slot(name, tuple(value.shape), value.dtype) for name, value in TENSORS.items()]


def test_library_reads_what_was_written(tmp_path):
    seen = []
    write_shard(tmp_path / "a.safetensors", SLOTS, TENSORS.__getitem__, {"made_of": "x"}, seen.append)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    assert sum(seen) == sum(slot.num_bytes for slot in SLOTS)


def test_values_are_cast_to_the_slot(tmp_path):
    write_shard(tmp_path / "a.safetensors", [Slot("a", (3,), torch.bfloat16)], lambda _: torch.rand(3), {})
    assert load_file(tmp_path / "a.safetensors")["a"].dtype == torch.bfloat16


def test_interrupted_shard_does_not_appear(tmp_path):
    def fail(name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.safetensors", SLOTS, fail, {})
    assert not (tmp_path / "a.safetensors").exists()


def test_shard_is_recognised_by_its_mark_and_its_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    assert not holds(path, SLOTS, {"made_of": "x"})
    write_shard(path, SLOTS, TENSORS.__getitem__, {"made_of": "x"})
    assert holds(path, SLOTS, {"made_of": "x"})
    assert not holds(path, SLOTS, {"made_of": "y"})
    assert not holds(path, SLOTS[:-1], {"made_of": "x"})
    path.write_bytes(path.read_bytes()[:-1])
    assert not holds(path, SLOTS, {"made_of": "x"})


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_shards_keep_the_order_and_the_limit(lengths, max_numbers):
    slots = [Slot(str(i), (n,), torch.float32) for i, n in enumerate(lengths)]
    shards = cut_into_shards(slots, 4 * max_numbers)
    assert [slot for shard in shards for slot in shard] == slots
    assert all(len(shard) == 1 or sum(s.num_bytes for s in shard) <= 4 * max_numbers for shard in shards)
