"""Image features and visual tokens, computed once per video and shared by queries, corrections and sessions.

Three levels, each with a budget and each giving up what was used longest ago: the accelerator's memory, main memory,
disk. What is kept never depends on a query, a mask or a correction.

Masks are the same whether the cache is cold, warm or off in part, because no level rounds: an entry is kept in the
type it is used in. Only where the disk level is on and the model computes in float32 are entries rounded to float16,
which halves them on every level, and then *before their first use*, so that a cold run reads what a warm one will.
The reference preset is never rounded.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_virst.engine.cache_disk import DiskLevel, default_folder
from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from napari_virst.model.windows import Window

BYTES_PER_GB = 10**9
_LARGEST_HALF = torch.finfo(torch.float16).max
_LAST = "_channels_last"
DISK_VARIABLE, RAM_VARIABLE = "NAPARI_VIRST_CACHE_DISK_GB", "NAPARI_VIRST_CACHE_RAM_GB"
FOLDER_VARIABLE = "NAPARI_VIRST_CACHE_DIR"


@dataclass(frozen=True)
class CacheLimits:
    """How much may be kept on each level.

    The disk level is off unless it is given a budget: the features of one long video are tens of gigabytes at official
    size, and nobody expects a viewer to write that unasked.
    """

    device_bytes: int | None = None
    """On an accelerator; None: a tenth of its memory. On a CPU None is 0, since main memory is the level below."""
    ram_bytes: int | None = None
    """In main memory; None: an eighth of the computer's, at most 4 GB."""
    disk_bytes: int = 0
    """On disk; 0: off."""
    folder: Path | None = None
    """Where the disk level lies; None: in the user's cache folder."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> CacheLimits:
        """Read ``NAPARI_VIRST_CACHE_DISK_GB``, ``NAPARI_VIRST_CACHE_RAM_GB`` and ``NAPARI_VIRST_CACHE_DIR``.

        Raises
        ------
        InputError
            When a size is no number of gigabytes.
        """
        ram, disk = (_gigabytes(name, variables.get(name)) for name in (RAM_VARIABLE, DISK_VARIABLE))
        folder = variables.get(FOLDER_VARIABLE)
        return cls(ram_bytes=ram, disk_bytes=disk or 0, folder=Path(folder).expanduser() if folder else None)


def _gigabytes(name: str, text: str | None) -> int | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f'{name} must be a number of gigabytes, 0 or more; got "{text}"; set it to e.g. 20.')
    return int(value * BYTES_PER_GB)


@dataclass(frozen=True)
class CacheKey:
    """What an entry is of."""

    video: str
    """Fingerprint of the pixels."""
    stage: str
    """What was computed."""
    frame: int
    window: Window | None = None

    @property
    def file_name(self) -> str:
        """A path without suffix, ``video/stage-frame[-window]``."""
        w = self.window
        window = "" if w is None else f"-{w.y0}_{w.x0}_{w.height}_{w.width}"
        video = hashlib.blake2b(self.video.encode(), digest_size=12).hexdigest()
        return f"{video}/{self.stage}-{self.frame:07d}{window}"


@dataclass(frozen=True)
class LevelReport:
    """One level of the cache."""

    name: str
    num_entries: int
    num_bytes: int
    budget_bytes: int
    num_hits: int


@dataclass(frozen=True)
class CacheReport:
    """What the cache holds and how often it was of use."""

    levels: tuple[LevelReport, ...]
    """Device, ram, disk."""
    num_misses: int
    folder: Path
    """Of the disk level."""

    @property
    def num_hits(self) -> int:
        """On any level."""
        return sum(level.num_hits for level in self.levels)

    @property
    def hit_rate(self) -> float:
        """Share of askings that were answered, 0…1; 0 before the first."""
        return self.num_hits / max(1, self.num_hits + self.num_misses)


class MemoryLevel:
    """Entries on one device, at most ``budget_bytes`` of them, in order of last use."""

    def __init__(self, device: torch.device, budget_bytes: int) -> None:
        self.device, self.budget_bytes, self.num_bytes = device, budget_bytes, 0
        self._entries: OrderedDict[CacheKey, tuple[Tensor, ...]] = OrderedDict()

    def __contains__(self, key: CacheKey) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def pop(self, key: CacheKey) -> tuple[Tensor, ...] | None:
        """Return an entry and hold it no longer."""
        entry = self._entries.pop(key, None)
        self.num_bytes -= _num_bytes(entry or ())
        return entry

    def put(self, key: CacheKey, entry: tuple[Tensor, ...]) -> list[tuple[CacheKey, tuple[Tensor, ...]]]:
        """Hold an entry as the last used one; return what had to go, itself where it is larger than the budget."""
        self.pop(key)
        if _num_bytes(entry) > self.budget_bytes:
            return [(key, entry)]
        self._entries[key] = tuple(x.to(self.device) for x in entry)
        self.num_bytes += _num_bytes(entry)
        gone = []
        while self.num_bytes > self.budget_bytes:
            oldest, removed = self._entries.popitem(last=False)
            self.num_bytes -= _num_bytes(removed)
            gone.append((oldest, removed))
        return gone


def _num_bytes(entry: tuple[Tensor, ...]) -> int:
    return sum(x.numel() * x.element_size() for x in entry)


class FeatureCache:
    """Tensors of one model, shared by everything that runs it; any thread may ask.

    Parameters
    ----------
    limits
        How much may be kept.
    device, dtype
        Where the model computes, and in what type.
    model_hash
        Returns a text that differs where the same pixels would give other features; asked once, and only where the
        disk level is on, since the other levels die with the model.
    """

    def __init__(
        self, limits: CacheLimits, device: torch.device, dtype: torch.dtype, model_hash: Callable[[], str]
    ) -> None:
        self._device, self._dtype = device, dtype
        self._upper = MemoryLevel(device, _device_bytes(limits, device))
        self._ram = MemoryLevel(torch.device("cpu"), ram_budget(limits))
        self._disk = DiskLevel(limits.folder or default_folder(), limits.disk_bytes)
        self._rounds = limits.disk_bytes > 0 and dtype == torch.float32
        self._model_hash, self._known_hash = model_hash, ""
        self._hits = {"device": 0, "ram": 0, "disk": 0}
        self._num_misses = 0
        self._counted = (0, 0)
        self._lock = RLock()

    def __contains__(self, key: CacheKey) -> bool:
        with self._lock:
            return key in self._upper or key in self._ram or (self._disk.is_on and self._name(key) in self._disk)

    def fetch(
        self, key: CacheKey, compute: Callable[[], tuple[Tensor, ...]], *, exact: bool = False
    ) -> tuple[Tensor, ...]:
        """Return an entry on the model's device, computed where no level holds it.

        Parameters
        ----------
        key
            What it is of.
        compute
            Returns it.
        exact
            Never round it.
        """
        with self._lock:
            kept = self._find(key)
        if kept is not None:
            return self._ready(kept)
        computed = compute()
        settled = tuple(map(_storable, computed)) if self._disk.budget_bytes > 0 else computed
        if self._rounds and not exact:
            settled = tuple(map(_rounded, settled))
        with self._lock:
            self._num_misses += 1
            self._hold(key, settled)
            if self._disk.is_on:
                self._disk.write(self._name(key), save(_named(settled)))
        return self._ready(settled)

    def report(self) -> CacheReport:
        """Return what is held and how often it was of use."""
        with self._lock:
            disk = (self._disk.num_entries, self._disk.num_bytes) if self._disk.is_on else (0, 0)
            levels = (
                self._report("device", len(self._upper), self._upper.num_bytes, self._upper.budget_bytes),
                self._report("ram", len(self._ram), self._ram.num_bytes, self._ram.budget_bytes),
                self._report("disk", *disk, self._disk.budget_bytes if self._disk.is_on else 0),
            )
            return CacheReport(levels, self._num_misses, self._disk.folder)

    def save_counters(self) -> None:
        """Add what happened since the last call to the counters beside the disk level, for ``napari-virst info``."""
        with self._lock:
            hits, misses = sum(self._hits.values()), self._num_misses
            known_hits, known_misses = self._counted
            if (hits, misses) != self._counted:
                self._disk.count(hits - known_hits, misses - known_misses)
                self._counted = (hits, misses)

    def _report(self, name: str, num_entries: int, num_bytes: int, budget_bytes: int) -> LevelReport:
        return LevelReport(name, num_entries, num_bytes, budget_bytes, self._hits[name])

    def _ready(self, entry: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Place an entry for use; in a float32 model float16 is what was rounded."""
        return tuple(
            x.to(self._device, self._dtype if self._rounds and x.dtype == torch.float16 else x.dtype) for x in entry
        )

    def _find(self, key: CacheKey) -> tuple[Tensor, ...] | None:
        """Look on every level; what is found moves to the top."""
        for name, level in (("device", self._upper), ("ram", self._ram)):
            entry = level.pop(key)
            if entry is not None:
                self._hits[name] += 1
                self._hold(key, entry)
                return entry
        entry = self._read(key) if self._disk.is_on else None
        if entry is not None:
            self._hits["disk"] += 1
            self._hold(key, entry)
        return entry

    def _hold(self, key: CacheKey, entry: tuple[Tensor, ...]) -> None:
        for other, gone in self._upper.put(key, entry):
            self._ram.put(other, gone)

    def _read(self, key: CacheKey) -> tuple[Tensor, ...] | None:
        content = self._disk.read(self._name(key))
        if content is None:
            return None
        try:
            tensors = load(content)
        except (SafetensorError, ValueError, KeyError):
            self._disk.discard(self._name(key))
            return None
        return tuple(x.permute(0, 3, 1, 2) if _LAST in name else x for name, x in sorted(tensors.items()))

    def _name(self, key: CacheKey) -> str:
        self._known_hash = self._known_hash or self._model_hash()
        return f"{self._known_hash}/{key.file_name}"


def _rounded(x: Tensor) -> Tensor:
    return x.clamp(-_LARGEST_HALF, _LARGEST_HALF).half() if x.dtype == torch.float32 else x


def _storable(x: Tensor) -> Tensor:
    """Return a tensor in one of the two orders of axes that come back from disk as they were."""
    return x if x.is_contiguous() or _is_channels_last(x) else x.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _named(entry: tuple[Tensor, ...]) -> dict[str, Tensor]:
    named = {}
    for number, x in enumerate(entry):
        last = _is_channels_last(x)
        named[f"{number:02d}{_LAST if last else ''}"] = (x.permute(0, 2, 3, 1) if last else x).detach().cpu()
    return named


def _device_bytes(limits: CacheLimits, device: torch.device) -> int:
    if limits.device_bytes is not None:
        return limits.device_bytes
    return torch.cuda.get_device_properties(device).total_memory // 10 if device.type == "cuda" else 0


def ram_budget(limits: CacheLimits) -> int:
    """Return how many bytes may be kept in main memory."""
    if limits.ram_bytes is not None:
        return limits.ram_bytes
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 8 * BYTES_PER_GB
    return min(4 * BYTES_PER_GB, total // 8)


def weights_hash(modules: list[nn.Module], *choices: object) -> str:
    """Return a hash of weights, of choices, and of what computes: the same weights give other digits elsewhere.

    An image encoder at official size (0.4 GB in bfloat16) takes half a second.
    """
    state = hashlib.blake2b(digest_size=12)
    state.update(repr((choices, torch.__version__, torch.get_num_threads())).encode())
    for module in modules:
        for name, weight in module.state_dict().items():
            state.update(f"{name} {weight.dtype} {weight.device} {tuple(weight.shape)}".encode())
            state.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()
