"""One project, one session: a lock that the operating system lets go of when its process ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, BinaryIO

from napari_virst.errors import ProjectError

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # beyond the text, which others may then read

    def _try_lock(file: BinaryIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
else:
    import fcntl

    def _try_lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class ProjectLock:
    """Holds a project for one session; the file says which process has it.

    The file itself stays and means nothing: it is the operating system's lock on it that counts, and that one dies with
    its process. Where a file system knows no locks, nothing is held and nobody refused.

    Parameters
    ----------
    path
        The lock file; made where it does not exist.

    Raises
    ------
    ProjectError
        When another session has the project open, in this process or another, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | None = None
        try:
            file = path.open("a+b")
        except OSError as error:
            raise ProjectError(
                f"A project folder must be writable; got {path.parent} ({error.strerror}); choose another folder."
            ) from error
        try:
            _try_lock(file)
        except OSError as error:
            holder = _holder(file)
            file.close()
            if error.errno in _TAKEN:
                raise ProjectError(
                    f"A project must be open in one window at a time; {path.parent} is open in {holder}; "
                    "close it there."
                ) from None
            return
        self._file = file
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        file.flush()

    def release(self) -> None:
        """Let go of the project; twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _holder(file: BinaryIO) -> str:
    try:
        file.seek(0)
        content = json.loads(file.read())
        pid, host = int(content["pid"]), str(content["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    return "this program" if pid == os.getpid() else f"process {pid}"
