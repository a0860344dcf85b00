"""``--frames-sampled``: the very frames that grounding looks at, to repeat a run that drew them at random."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from napari_virst.model.processing import FrameSample

_LIST = re.compile(r"\s*\d+(\s*,\s*\d+)*\s*")
_FORM = (
    "--frames-sampled must be frame numbers, e.g. 0,4,8,12, or those and, behind a slash, those of them for ST-Fusion, "
    'e.g. 0,4,8,12/0,8, or a JSON file {"vlm": [...], "segmentation": [...]}'
)


def read_frame_sample(text: str, num_frames: int) -> FrameSample:
    """Read what was typed, or the file that it names.

    Parameters
    ----------
    text
        Frame numbers of the video tower, all of them seen by ST-Fusion too; or two lists with a slash between; or the
        path of a JSON object with "vlm" and, where they differ, "segmentation".
    num_frames
        Of the video.

    Raises
    ------
    InputError
        When it has another form, or names frames that the video has not.
    """
    from napari_virst.model.processing import FrameSample

    parts = text.split("/")
    if len(parts) <= 2 and all(_LIST.fullmatch(part) for part in parts):
        lists = [tuple(int(number) for number in part.split(",")) for part in parts]
    else:
        lists = _read_file(Path(text).expanduser())
    sample = FrameSample(lists[0], lists[-1])
    # Whether the clips are whole is known to the model alone; it asks again.
    sample.check(num_frames, frames_per_clip=1)
    return sample


def _read_file(path: Path) -> list[tuple[int, ...]]:
    if not path.is_file():
        raise InputError(f'{_FORM}; got "{path}", which is no file; check it.')
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = [content["vlm"], content.get("segmentation", content["vlm"])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{_FORM}; "{path}" is none: {error!r}; correct it.') from error
    for frames in lists:
        if not isinstance(frames, list) or not all(type(frame) is int for frame in frames):
            raise InputError(f'{_FORM}; "{path}" holds {frames!s:.60}; correct it.')
    return [tuple(frames) for frames in lists]
