"""One project, one session."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_virst.errors import ProjectError
from napari_virst.io.project_lock import ProjectLock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from napari_virst.io.project_lock import ProjectLock
lock = ProjectLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_second_session_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first = ProjectLock(tmp_path / "lock")
    with pytest.raises(ProjectError, match="open in this program; close it there"):
        ProjectLock(tmp_path / "lock")
    first.release()
    ProjectLock(tmp_path / "lock").release()


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = ProjectLock(tmp_path / "lock")
    lock.release()
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="a process is killed otherwise there")
def test_lock_of_another_process_names_it_and_dies_with_it(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ProjectError, match=f"process {process.pid}"):
        ProjectLock(tmp_path / "lock")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    ProjectLock(tmp_path / "lock").release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x", "host": 3}'], ids=["empty", "cut", "list", "odd"])
def test_lock_file_of_any_content_is_taken_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    lock = ProjectLock(tmp_path / "lock")
    assert json.loads((tmp_path / "lock").read_bytes())["pid"] > 0
    lock.release()


def test_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="must be writable"):
        ProjectLock(tmp_path / "nowhere" / "lock")
