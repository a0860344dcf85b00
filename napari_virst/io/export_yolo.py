"""YOLO segmentation labels: a text file per frame, a row per object, docs.ultralytics.com/datasets/segment.

A row is the number of the class and one polygon, x and y in turn as parts of width and height. Pieces and holes are
joined into that one polygon by bridges without width, as users of the format do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.io.export_writing import frame_name
from napari_virst.io.polygons import trace_polygon

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.io.export_plan import ExportPlan, ObjectMask
    from napari_virst.io.export_writing import FrameImages


class YoloWriter:
    """Writes ``labels/<split>/<video>_00000.txt``, frames to ``images/<split>``, and ``data.yaml``.

    Parameters
    ----------
    root
        The folder.
    split
        "train" or "val".
    """

    max_objects = (1 << 16) - 1

    def __init__(self, root: Path, split: str) -> None:
        self._root, self._split = root, split
        self._classes: dict[str, int] = {}
        self._num_masks = self._num_in_pieces = self._num_with_holes = 0
        (root / "labels" / split).mkdir(parents=True)

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        self._plan, self._frames = plan, images
        for track in plan.tracks:
            self._classes.setdefault(track.query.name, len(self._classes))
        if images is not None:
            (self._root / "images" / self._split).mkdir(parents=True, exist_ok=True)

    def put(self, frame: int) -> None:
        """Write one frame; an empty file says that none of the classes is there."""
        stem = f"{self._plan.name}_{frame_name(frame)}"
        rows = "".join(f"{self._row(found)}\n" for found in self._plan.masks(frame))
        (self._root / "labels" / self._split / f"{stem}.txt").write_text(rows, encoding="ascii")
        if self._frames is not None:
            self._frames.write_jpeg(self._root / "images" / self._split / f"{stem}.jpg", frame)

    def _row(self, found: ObjectMask) -> str:
        polygon = trace_polygon(found.mask)
        self._num_masks += 1
        self._num_in_pieces += polygon.num_pieces > 1
        self._num_with_holes += polygon.num_holes > 0
        height, width = self._plan.size
        points = (polygon.points + found.corner[::-1]) / np.array([width, height])
        numbers = " ".join(f"{number:.6f}" for number in points.ravel().tolist())
        return f"{self._classes[self._plan.name_of(found.object)]} {numbers}"

    def end(self) -> tuple[str, ...]:
        """End the video."""
        return ()

    def finish(self) -> tuple[str, ...]:
        """Write ``data.yaml``; paths are those from the folder that it lies in."""
        images = f"images/{self._split}"
        # A string of JSON is one of YAML.
        names = "".join(f"  {n}: {json.dumps(name, ensure_ascii=False)}\n" for name, n in self._classes.items())
        text = (
            "# Where there is one split alone it stands for both: replace one of them by videos kept apart.\n"
            f"train: {images}\nval: {images}\nnames:\n{names}"
        )
        (self._root / "data.yaml").write_text(text, encoding="utf-8")
        return (
            f"data.yaml names {images} for training and validation both: give it other videos for one of them.",
            *self._losses(),
        )

    def _losses(self) -> tuple[str, ...]:
        if not self._num_in_pieces and not self._num_with_holes:
            return ()
        return (
            f"A row is one polygon: of {self._num_masks} masks, {self._num_in_pieces} in several pieces and "
            f"{self._num_with_holes} with holes were joined by bridges without width. Readers draw bridges a pixel "
            "wide, and some fill holes.",
        )
