"""Which videos are meant by files, folders and patterns, and how the folders of their results are called."""

from __future__ import annotations

import glob
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from napari_virst.errors import InputError
from napari_virst.io.folders import movies_in
from napari_virst.io.video import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_videos(typed: Sequence[str]) -> list[Path]:
    """List the videos meant, in full, in the order typed and each once.

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
            found |= dict.fromkeys(video.resolve() for video in inside or [match])
    return list(found)


def name_folders(videos: Sequence[Path]) -> dict[Path, str]:
    """Name a folder for each video: as the video, and where that is not enough with its ending or the folder above.

    Parameters
    ----------
    videos
        Paths in full, each once.

    Examples
    --------
    >>> list(name_folders([Path("/a/x.mp4"), Path("/b/x.mp4"), Path("/b/y.tif"), Path("/b/y.avi")]).values())
    ['a-x', 'b-x', 'y.tif', 'y.avi']
    """
    names: dict[Path, str] = {}
    ways = (
        name_of,
        lambda video: video.name,
        lambda video: f"{video.parent.name}-{name_of(video)}",
        lambda video: quote(str(video), safe=" "),
    )
    for name in ways:
        count = Counter(name(video) for video in videos if video not in names)
        taken = set(names.values())
        names |= {v: name(v) for v in videos if v not in names and count[name(v)] == 1 and name(v) not in taken}
    return {video: names[video] for video in videos}
