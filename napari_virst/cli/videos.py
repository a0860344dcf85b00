"""Which videos are meant by files, folders and patterns, and how the folders of their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from napari_virst.cli.report import note
from napari_virst.errors import InputError
from napari_virst.io._containers import is_zarr
from napari_virst.io._images import FOLDER_SUFFIXES, TIFF_SUFFIXES
from napari_virst.io.folders import movies_in
from napari_virst.io.video import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def find_videos(typed: Sequence[str]) -> list[Path]:
    """List the videos meant, in full, in the order typed and each once; links stay, for their names are those known.

    A folder stands for the movies and OME-Zarr stores in it; where there are none it is a video of images itself.

    Parameters
    ----------
    typed
        Files, folders, and patterns for shells that leave them as they are.

    Raises
    ------
    InputError
        When something typed names nothing.
    """
    found: dict[Path, None] = {}
    for text in typed:
        path = Path(text).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path)))]
        if not matches:
            raise InputError(
                f'VIDEOS must be files, folders or patterns like "videos/*.mp4"; got "{text}", which names nothing; '
                "correct it."
            )
        for match in matches:
            inside = movies_in(match) if match.is_dir() else []
            if match.is_dir() and not is_zarr(match):
                _note_folder(match, inside)
            found |= dict.fromkeys(Path(os.path.abspath(video)) for video in inside or [match])
    return list(found)


def _note_folder(folder: Path, inside: Sequence[Path]) -> None:
    """Say what of a folder is not meant by naming it, and how to have it meant."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = [path for path in visible if _is_image(path)]
    folders = [path for path in set(visible).difference(inside) if path.is_dir() and _holds_video(path)]
    if inside and (images or folders):
        first, *others = [*images, *sorted(folders)]
        more = f" and {len(others)} more" if others else ""
        note(f"{folder}: only its movies and stores are taken, not {first.name}{more}; name these to have them too.")
    elif folders and not images:
        note(f'{folder} holds folders; for a video from each of them give "{folder}/*/".')
    elif len(images) > 1 and _is_stack(images[0]):
        pattern = f"{folder}/*{images[0].suffix}"
        note(f'{folder} is one video, a frame from each of its files; for a video from each give "{pattern}".')


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in FOLDER_SUFFIXES and path.is_file()


def _holds_video(folder: Path) -> bool:
    return any(map(_is_image, folder.iterdir())) or bool(movies_in(folder))


def _is_stack(path: Path) -> bool:
    """Whether an image file holds more than one image, or volume."""
    import tifffile

    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return len(file.series[0].shape) > 2 + ("S" in file.series[0].axes)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return False


def changed_s(video: Path) -> float:
    """Return when a video was changed last, in seconds of the system's clock; of a folder, any file in it.

    Raises
    ------
    OSError
        When it is gone.
    """
    inside = (Path(folder, name) for folder, _, names in os.walk(video) for name in names)
    return max(path.stat().st_mtime for path in (video, *inside))


def name_folders(videos: Sequence[Path], held: Mapping[Path, str] | None = None) -> dict[Path, str]:
    """Name a folder for each video: as the video, and where that is not enough with its ending or the folder above.

    Parameters
    ----------
    videos
        Paths in full, each once.
    held
        Folders that videos have already, these or others, no two the same: theirs they keep.

    Examples
    --------
    >>> list(name_folders([Path("/a/x.mp4"), Path("/b/x.mp4"), Path("/b/y.tif"), Path("/b/y.avi")]).values())
    ['a-x', 'b-x', 'y.tif', 'y.avi']
    """
    held = held or {}
    names = {video: held[video] for video in videos if video in held}
    ways = (
        name_of,
        lambda video: video.name,
        lambda video: f"{video.parent.name}-{name_of(video)}",
        lambda video: quote(str(video), safe=" "),
    )
    for name in ways:
        count = Counter(name(video) for video in videos if video not in names)
        taken = {*names.values(), *held.values()}
        names |= {v: name(v) for v in videos if v not in names and count[name(v)] == 1 and name(v) not in taken}
    return {video: names[video] for video in videos}
