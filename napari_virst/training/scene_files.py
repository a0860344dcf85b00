"""Puts scenes on disk as annotated clips, to be opened in napari or evaluated like real ones."""

# T frames, C colours, H W rows and columns

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_scene(
    folder: Path, frames: NDArray[np.uint8], masks: NDArray[np.bool_], query: str, kind: str, label: int = 1
) -> None:
    """Write a scene in the layout that :func:`~napari_virst.evaluation.clips.find_clips` reads.

    Parameters
    ----------
    folder
        The clip's folder; made where there is none.
    frames
        (T, H, W, 3) uint8 RGB; ``frames/00000.png`` and so on.
    masks
        (T, H, W) bool, the answer; ``masks/00000.png``, ``label`` where True.
    query, kind
        What is asked, and of which kind; in ``meta.json``. A query whose answer is empty stands under "absent".
    label
        1…255, the value of the answer's pixels.

    Raises
    ------
    InputError
        When the folder holds files already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f'A scene must be written to a new folder; "{folder}" holds files; choose another one.')
    shown = np.flatnonzero(masks.any((1, 2)))
    item = {"id": label, "expressions": [query]}
    if len(shown):
        item["mask_frames"] = [[int(shown[0]), int(shown[-1])]]
    for name, pictures in (("frames", frames), ("masks", masks * np.uint8(label))):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{number:05d}.png")
    meta = {"kind": kind, "objects": [item] if len(shown) else [], "absent": [] if len(shown) else [query]}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
