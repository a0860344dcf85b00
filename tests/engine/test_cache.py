from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_virst.engine.cache import CacheKey, CacheLimits, FeatureCache, weights_hash
from napari_virst.engine.cache_disk import disk_use
from napari_virst.errors import InputError
from napari_virst.model.windows import Window

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
ENTRY_BYTES = 10 * 4


def open_cache(folder: Path | None = None, dtype: torch.dtype = torch.float32, model: str = "m", **limits):
    limits = {"ram_bytes": 1000, **limits}
    return FeatureCache(CacheLimits(folder=folder, **limits), CPU, dtype, lambda: model)


def key(frame: int, **parts) -> CacheKey:
    return CacheKey(**{"video": "v", "stage": "image", "frame": frame, **parts})


class Maker:
    """Makes the entry of a frame, and counts how often."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.num_made, self.dtype = 0, dtype

    def __call__(self, frame: int):
        def make() -> tuple[torch.Tensor, ...]:
            self.num_made += 1
            values = torch.rand(5, generator=torch.Generator().manual_seed(frame)) + frame
            return values.to(self.dtype), -values.to(self.dtype)

        return make


@pytest.fixture
def maker() -> Maker:
    return Maker()


def test_what_was_computed_once_is_not_computed_again(maker):
    cache = open_cache()
    first, second = (cache.fetch(key(3), maker(3)) for _ in range(2))
    assert maker.num_made == 1
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "other",
    [{"frame": 4}, {"video": "w"}, {"stage": "tokens"}, {"window": Window(0, 0, 8, 8)}],
    ids=["frame", "video", "stage", "window"],
)
def test_another_frame_video_stage_or_window_is_another_entry(maker, other, tmp_path):
    cache = open_cache(tmp_path, disk_bytes=10_000)
    cache.fetch(key(3), maker(3))
    assert key(**{"frame": 3, **other}) not in cache


def test_least_recently_used_entry_goes_first(maker):
    cache = open_cache(ram_bytes=2 * ENTRY_BYTES)
    for frame in (0, 1, 0, 2):
        cache.fetch(key(frame), maker(frame))
    assert [key(f) in cache for f in range(3)] == [True, False, True]


def test_entry_that_leaves_the_device_is_still_in_main_memory(maker):
    cache = open_cache(device_bytes=ENTRY_BYTES, ram_bytes=ENTRY_BYTES)
    for frame in (0, 1, 2):
        cache.fetch(key(frame), maker(frame))
    assert [key(f) in cache for f in range(3)] == [False, True, True]
    device, ram, _ = cache.report().levels
    assert (device.num_entries, ram.num_entries) == (1, 1)


def test_entry_larger_than_every_budget_is_returned_and_not_kept(maker):
    cache = open_cache(ram_bytes=ENTRY_BYTES - 1)
    assert len(cache.fetch(key(0), maker(0))) == 2
    assert key(0) not in cache
    assert cache.report().levels[1].num_bytes == 0


def test_disk_outlives_the_process(maker, tmp_path):
    entry = open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), maker(0))
    again = open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), maker(0))
    assert maker.num_made == 1
    assert all(torch.equal(a, b) for a, b in zip(entry, again, strict=True))


def test_other_weights_find_nothing_on_disk(maker, tmp_path):
    open_cache(tmp_path, disk_bytes=10_000, model="a").fetch(key(0), maker(0))
    assert key(0) not in open_cache(tmp_path, disk_bytes=10_000, model="b")


def test_disk_is_off_and_untouched_without_a_budget(maker, tmp_path):
    open_cache(tmp_path).fetch(key(0), maker(0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("disk_bytes", [0, 10_000], ids=["no disk", "disk"])
def test_first_use_reads_the_very_numbers_that_later_ones_read(tmp_path, dtype, disk_bytes):
    maker = Maker(dtype)
    cold = open_cache(tmp_path, dtype, disk_bytes=disk_bytes)
    first, warm = cold.fetch(key(0), maker(0)), cold.fetch(key(0), maker(0))
    later = open_cache(tmp_path, dtype, disk_bytes=disk_bytes).fetch(key(0), maker(0))
    for a, b, c in zip(first, warm, later, strict=True):
        assert a.dtype == b.dtype == c.dtype == dtype
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_without_disk_nothing_is_rounded(maker):
    cached, plain = open_cache().fetch(key(7), maker(7)), maker(7)()
    assert all(torch.equal(a, b) for a, b in zip(cached, plain, strict=True))


def test_exact_entries_are_not_rounded_on_disk_either(maker, tmp_path):
    for _ in range(2):
        found = open_cache(tmp_path, disk_bytes=10_000).fetch(key(7), maker(7), exact=True)
        assert torch.equal(found[0], maker(7)()[0])


def test_float32_takes_half_on_disk(maker, tmp_path):
    cache = open_cache(tmp_path, disk_bytes=10_000)
    cache.fetch(key(0), lambda: (torch.rand(1000),))
    assert 2000 <= disk_use(tmp_path).num_bytes < 2500


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1)], ids=str)
def test_order_of_axes_in_memory_comes_back_from_disk(tmp_path, axes):
    def compute() -> tuple[torch.Tensor, ...]:
        return (torch.rand(1, 4, 5, 6).permute(axes),)

    first = open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), compute)[0]
    later = open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), compute)[0]
    assert torch.equal(first, later)
    assert first.stride() == later.stride()


def test_values_beyond_half_precision_stay_finite(tmp_path):
    cache = open_cache(tmp_path, disk_bytes=10_000)
    assert torch.isfinite(cache.fetch(key(0), lambda: (torch.tensor([1e9, -1e9]),))[0]).all()


@pytest.mark.parametrize("damage", [b"", b"not safetensors", b"\xff" * 64], ids=["empty", "foreign", "binary"])
def test_damaged_file_is_computed_again(maker, tmp_path, damage):
    open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), maker(0))
    next(tmp_path.rglob("*.safetensors")).write_bytes(damage)
    open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), maker(0))
    assert maker.num_made == 2


def test_disk_that_fails_turns_the_level_off_and_not_the_run(maker, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = open_cache(blocked, disk_bytes=10_000)
    assert len(cache.fetch(key(0), maker(0))) == 2
    assert cache.report().levels[2].budget_bytes == 0
    assert key(0) in cache


def test_no_half_written_file_is_left(maker, tmp_path):
    open_cache(tmp_path, disk_bytes=10_000).fetch(key(0), maker(0))
    assert not list(tmp_path.rglob("*.part"))


def test_disk_keeps_its_budget_across_processes(tmp_path):
    maker = Maker()
    for start in (0, 10):
        cache = open_cache(tmp_path, disk_bytes=1000)
        for frame in range(start, start + 10):
            cache.fetch(key(frame), maker(frame))
    use = disk_use(tmp_path)
    assert 0 < use.num_bytes <= 1000
    assert use.num_entries < 20


def test_hits_and_misses_are_counted_and_outlive_the_process(maker, tmp_path):
    for _ in range(2):
        cache = open_cache(tmp_path, disk_bytes=10_000)
        for frame in (0, 1, 0):
            cache.fetch(key(frame), maker(frame))
        cache.save_counters()
        cache.save_counters()
    use, report = disk_use(tmp_path), cache.report()
    assert (use.num_hits, use.num_misses) == (1 + 3, 2)
    assert [level.num_hits for level in report.levels] == [0, 1, 2]
    assert report.hit_rate == 1.0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(st.integers(0, 7), max_size=40),
    budgets=st.tuples(*[st.integers(0, 5 * ENTRY_BYTES)] * 2),
)
def test_budgets_hold_and_every_answer_is_right_whatever_is_asked(frames, budgets):
    cache, maker = open_cache(device_bytes=budgets[0], ram_bytes=budgets[1]), Maker()
    for frame in frames:
        found = cache.fetch(key(frame), maker(frame))
        assert torch.equal(found[0], Maker()(frame)()[0])
        for level in cache.report().levels:
            assert level.num_bytes <= level.budget_bytes or level.name == "disk"
    report = cache.report()
    assert report.num_hits + report.num_misses == len(frames)
    assert report.num_misses == maker.num_made


def test_limits_come_from_the_environment(tmp_path):
    limits = CacheLimits.from_environment(
        {
            "NAPARI_VIRST_CACHE_DISK_GB": "20",
            "NAPARI_VIRST_CACHE_RAM_GB": "0.5",
            "NAPARI_VIRST_CACHE_DIR": str(tmp_path),
        }
    )
    assert limits == CacheLimits(ram_bytes=500_000_000, disk_bytes=20_000_000_000, folder=tmp_path)
    assert CacheLimits.from_environment({}) == CacheLimits()


@pytest.mark.parametrize("text", ["much", "-1", "inf", "nan"])
def test_size_that_is_no_number_of_gigabytes_is_refused(text):
    with pytest.raises(InputError, match="number of gigabytes"):
        CacheLimits.from_environment({"NAPARI_VIRST_CACHE_DISK_GB": text})


def test_hash_differs_where_one_weight_does():
    layer = torch.nn.Linear(3, 3)
    before = weights_hash([layer])
    assert weights_hash([layer]) == before
    with torch.no_grad():
        layer.bias[1] += 1e-6
    assert weights_hash([layer]) != before
    assert weights_hash([layer.bfloat16()]) != before
