"""Which videos lie in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.io._containers import is_zarr
from napari_virst.io._movie import MOVIE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path


def movies_in(folder: Path) -> list[Path]:
    """List the movies and OME-Zarr stores that lie in a folder, by name; none of a store or a folder of images.

    Parameters
    ----------
    folder
        Must exist; what is hidden in it is left out.
    """
    if is_zarr(folder):
        return []
    visible = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    return [
        child for child in visible if (is_zarr(child) if child.is_dir() else child.suffix.lower() in MOVIE_SUFFIXES)
    ]
