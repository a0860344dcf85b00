"""The folder of an export: nothing is in its place before everything is written."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virst.errors import InputError
from napari_virst.io.project import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

DESCRIPTION = "export.json"
UNFINISHED = "unfinished-export"


class ExportFolder:
    """Where an export goes; a context manager, without which nothing is made.

    Files are written below :attr:`path`, a folder inside ``root``, and put in their places by :meth:`keep`, the
    description ``export.json`` last. When something goes wrong before that, what was written is removed; where the
    process was killed, the folder "unfinished-export" remains, and the next export there removes it.

    Parameters
    ----------
    root
        Must not exist, or be empty, or with ``overwrite`` hold an export.
    overwrite
        Replace the export there, once the new one is whole. Files that it did not write stay.

    Raises
    ------
    InputError
        When the folder holds something, or cannot be made.
    """

    def __init__(self, root: Path, overwrite: bool = False) -> None:
        self.root = Path(root).expanduser()
        self.path = self.root / UNFINISHED
        self._is_new = not self.root.exists()
        self._replaced = _check_root(self.root, overwrite)

    def __enter__(self) -> ExportFolder:
        try:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f'The folder of an export must be one that can be made; got {error.strerror} for "{self.root}"; '
                "choose another."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if error is not None and self._is_new:
            with suppress(OSError):
                self.root.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f'The folder of an export must have room for it; got {error.strerror or error} for "{self.root}"; '
                "make room, or choose another."
            ) from error

    def keep(self, description: Mapping[str, Any]) -> None:
        """Put everything in its place, and write ``export.json``: the description, and the names of what was put.

        Raises
        ------
        InputError
            When a file that no export wrote is in the way.
        """
        names = sorted(path.name for path in self.path.iterdir())
        for name in names:
            if name not in self._replaced and os.path.lexists(self.root / name):
                raise InputError(
                    f'An export must not write over other files; got "{self.root}", where "{name}" is no part of the '
                    "export to be replaced; choose another folder."
                )
        (self.root / DESCRIPTION).unlink(missing_ok=True)
        for name in self._replaced:
            _remove(self.root / name)
        for name in names:
            (self.path / name).rename(self.root / name)
        content = json.dumps({**description, "entries": names}, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.root / DESCRIPTION, content.encode())


def _check_root(root: Path, overwrite: bool) -> tuple[str, ...]:
    """Return the names of what the earlier export wrote, which is to be replaced."""
    if root.exists() and not root.is_dir():
        raise InputError(f'An export must go into a folder; got "{root}", which is a file; choose another name.')
    held = [path.name for path in root.iterdir() if path.name != UNFINISHED] if root.is_dir() else []
    if not held:
        return ()
    entries = _entries(root)
    if entries is None:
        raise InputError(
            f'An export must go into a folder of its own; got "{root}", which holds other files ({sorted(held)[0]}); '
            "choose another."
        )
    if not overwrite:
        raise InputError(
            f'An export must go into a folder of its own; got "{root}", which holds an export; '
            "choose another, or say --overwrite."
        )
    return entries


def _entries(root: Path) -> tuple[str, ...] | None:
    try:
        content = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
        return tuple(Path(name).name for name in content["entries"] if Path(name).name)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
