"""Whether a folder for results can be used: asked before the work, which may take hours."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder for results that is a file, or in which nothing can be written; makes nothing.

    Parameters
    ----------
    folder
        Where results shall go; need not exist.
    option
        What it was typed for, e.g. "-o".

    Raises
    ------
    InputError
        When the folder, or the nearest one above it that exists, cannot be written to.
    """
    above = [folder.absolute(), *folder.absolute().parents]
    place = next(each for each in above if os.path.exists(each))  # Path.exists raises where it may not look
    if not place.is_dir():
        raise InputError(f'{option} must be a folder; got "{folder}", and "{place}" is a file; choose another name.')
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f'{option} must be a folder that can be written to; got "{folder}", and nothing can be written in '
            f'"{place}"; choose another.'
        )


def check_unmixed(folder: Path, source: str) -> None:
    """Refuse a folder that holds the results of another video: files of one name would be written over.

    Parameters
    ----------
    folder
        Where label stacks and ``summary.json`` shall go.
    source
        The video, as ``SegmentRequest.source`` spells it.

    Raises
    ------
    InputError
        When the summary there tells of another video.
    """
    held = _source_of(folder)
    if held is not None and held != source:
        raise InputError(
            f'-o must be a folder of one video\'s results; got "{folder}", which holds those of {held}; '
            "choose another for this video, or delete what is there."
        )


def _source_of(folder: Path) -> str | None:
    """Return the video that the summary of a folder tells of; None where nothing does."""
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    source = content.get("source") if isinstance(content, dict) else None
    return source if isinstance(source, str) else None
