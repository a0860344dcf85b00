"""The disk level of the feature cache: one safetensors file per entry, the least recently used removed first. No torch.

Files are written under another name and renamed, so that a crash leaves no half of one. Several processes may share a
folder: a file that another one removed is a miss.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
COUNTERS = "counters.json"


def default_folder() -> Path:
    """Return the folder for features in the user's cache folder; it need not exist."""
    return Path(user_cache_path("napari-virst")) / "features"


@dataclass(frozen=True)
class DiskUse:
    """What a folder of features holds, and how often it was of use over its lifetime."""

    num_entries: int = 0
    num_bytes: int = 0
    num_hits: int = 0
    num_misses: int = 0


def disk_use(folder: Path) -> DiskUse:
    """Measure a folder of features; all zero where there is none."""
    sizes = [size for _, size, _ in _files(folder)]
    hits, misses = _read_counters(folder)
    return DiskUse(len(sizes), sum(sizes), hits, misses)


class DiskLevel:
    """Entries in a folder, at most ``budget_bytes`` of them.

    Where the disk fails (full, read-only), the level says so once in the log and is off from then on: a cache must
    never be what stops a run.

    Parameters
    ----------
    folder
        Made when the first entry is written.
    budget_bytes
        Most bytes that the folder may hold.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.budget_bytes = folder, budget_bytes
        self.is_on = budget_bytes > 0
        self._sizes: OrderedDict[Path, int] | None = None
        self._num_bytes = 0

    def __contains__(self, name: str) -> bool:
        return self.is_on and self._path(name).is_file()

    @property
    def num_bytes(self) -> int:
        """Bytes of all entries known to this process."""
        self._index()
        return self._num_bytes

    @property
    def num_entries(self) -> int:
        """How many entries are known to this process."""
        return len(self._index())

    def read(self, name: str) -> bytes | None:
        """Return an entry, or None; it counts as used just now."""
        if not self.is_on:
            return None
        path = self._path(name)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        self._note(path, len(content))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Hold an entry, and remove the least recently used ones until the budget is kept."""
        if not self.is_on or len(content) > self.budget_bytes:
            return
        path = self._path(name)
        try:
            _write_atomically(path, content)
        except OSError as error:
            self.is_on = False
            logger.warning("Features are no longer kept on disk: %s", error)
            return
        self._note(path, len(content))
        while self._num_bytes > self.budget_bytes:
            self._remove(next(iter(self._index())))

    def discard(self, name: str) -> None:
        """Remove an entry that turned out to be damaged."""
        self._remove(self._path(name))

    def count(self, num_hits: int, num_misses: int) -> None:
        """Add to the counters that outlive the process."""
        if not self.is_on or not self.folder.is_dir():
            return
        hits, misses = _read_counters(self.folder)
        content = json.dumps({"num_hits": hits + num_hits, "num_misses": misses + num_misses})
        with contextlib.suppress(OSError):
            _write_atomically(self.folder / COUNTERS, content.encode())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _index(self) -> OrderedDict[Path, int]:
        """Return sizes in order of last use, read from the folder the first time."""
        if self._sizes is None:
            found = sorted(_files(self.folder), key=lambda file: file[2])
            self._sizes = OrderedDict((path, size) for path, size, _ in found)
            self._num_bytes = sum(self._sizes.values())
        return self._sizes

    def _note(self, path: Path, size: int) -> None:
        index = self._index()
        self._num_bytes += size - index.pop(path, 0)
        index[path] = size

    def _remove(self, path: Path) -> None:
        self._num_bytes -= self._index().pop(path, 0)
        with contextlib.suppress(OSError):
            path.unlink()


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _files(folder: Path) -> list[tuple[Path, int, int]]:
    """Return path, size in bytes and last use in ns of every entry."""
    found = []
    for path in folder.rglob(f"*{SUFFIX}") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((path, status.st_size, status.st_mtime_ns))
    return found


def _read_counters(folder: Path) -> tuple[int, int]:
    try:
        counters = json.loads((folder / COUNTERS).read_text(encoding="utf-8"))
        return int(counters["num_hits"]), int(counters["num_misses"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
