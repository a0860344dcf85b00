"""What the tests of files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTORS = Path("/proc/self/fd")


def open_files_below(folder: Path) -> list[str]:
    """Files below ``folder`` that this process holds open; nothing where the system cannot tell."""
    found = []
    for descriptor in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            target = os.readlink(descriptor)
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


@pytest.fixture
def nothing_left_open(tmp_path: Path) -> Iterator[None]:
    """No file of the test stays open after it."""
    yield
    assert open_files_below(tmp_path) == []


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """The folder of real clips beside the repository."""
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "dev"
    if not folder.is_dir():
        pytest.skip(f"no clips at {folder}")
    return folder
