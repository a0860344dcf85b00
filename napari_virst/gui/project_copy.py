"""Copying a project folder while its session goes on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from napari_virst.errors import ProjectError
from napari_virst.io.project import ProjectFolder

_BLOCK_BYTES = 1 << 20


def file_name(layer_name: str) -> str:
    """Make of the name of a layer one that every file system takes.

    Examples
    --------
    >>> file_name("well A/1: GFP?"), file_name("cells.tif")
    ('well A-1- GFP-', 'cells.tif')
    """
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "-", layer_name)


def new_place(wished: Path) -> Path:
    """Give a place where nothing is yet, numbered where ``wished`` is taken: a save dialog opens folders that exist."""
    place, number = wished, 1
    while place.exists():
        number += 1
        place = wished.with_name(f"{wished.stem}-{number}{wished.suffix}")
    return place


def folder_meant(chosen: Path) -> Path:
    """Give the folder that is meant by a choice in a save dialog: that of a project, where its project.json is chosen.

    No dialog lets a person choose a folder that exists to save to; a file in it can be chosen, and is asked about.
    """
    folder = ProjectFolder(chosen.parent)
    return folder.root if folder.exists and chosen == folder.project_path else chosen


def copy_project(source: Path, target: Path) -> None:
    """Copy a project folder; a copy made there before is replaced once the new one is whole.

    Parameters
    ----------
    source : Path
        Project folder. It may be written to meanwhile: like after a crash, what is copied can be opened.
    target : Path
        A new or empty folder, or one that holds a project.

    Raises
    ------
    ProjectError
        When ``target`` holds something else, lies inside ``source``, or cannot be written.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    _check_target(source, target)
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, copy_function=_copy_sparse, ignore=shutil.ignore_patterns("*.tmp"))
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
    except OSError as error:
        raise ProjectError(
            f"A project must be saved to a writable place with enough room; got {target} ({error.strerror or error}); "
            "choose another folder. The session itself is safe."
        ) from error


def _check_target(source: Path, target: Path) -> None:
    if target == source or source in target.parents:
        raise ProjectError(f"A project must be saved outside of its own folder; got {target}; choose another folder.")
    if target.is_dir() and not ProjectFolder(target).exists and any(target.iterdir()):
        raise ProjectError(
            f"A project must be saved to a new folder, an empty one, or over an older copy; got {target}, "
            "which holds other files; choose another name."
        )
    if target.is_file():
        raise ProjectError(f"A project must be saved as a folder; got {target}, which is a file; choose another name.")


def _copy_sparse(source: str, target: str) -> None:
    """Copy a file leaving out blocks of zeros: masks of 2352 × 1080 × 1920 are 9.75 GB, most of it never written."""
    with open(source, "rb") as reading, open(target, "wb") as writing:
        while block := reading.read(_BLOCK_BYTES):
            if block.count(0) == len(block):
                writing.seek(len(block), 1)
            else:
                writing.write(block)
        writing.truncate(writing.tell())
    shutil.copystat(source, target)
