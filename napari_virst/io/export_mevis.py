"""MeViS: expressions that refer to annotations, and run lengths per annotation and frame, github.com/henghuiding/MeViS.

======================================  ============================================================================
file                                    content
======================================  ============================================================================
<split>/meta_expressions.json           per video its frames, and its queries with the annotations they refer to
<split>/mask_dict.json                  per annotation one mask a frame, null where the object cannot be seen
<split>/JPEGImages/<video>/00000.jpg    frames, where they are given
======================================  ============================================================================

Nothing is lost where objects overlap, nor where a query stands for many. :mod:`napari_virst.io.datasets` reads it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_virst.io.export_writing import frame_name, write_json
from napari_virst.io.run_lengths import encode_run_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.io.export_plan import ExportPlan
    from napari_virst.io.export_writing import FrameImages


class MevisWriter:
    """Writes both lists and frames; holds the run lengths of one video, never its masks.

    Parameters
    ----------
    root
        The folder.
    split
        Name of the folder of the split.
    """

    max_objects = (1 << 16) - 1

    def __init__(self, root: Path, split: str) -> None:
        self._root = root / split
        self._root.mkdir()
        self._masks = (self._root / "mask_dict.json").open("w", encoding="ascii")
        self._masks.write("{")
        self._num_annotations = 0
        self._videos: dict[str, Any] = {}

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        self._plan, self._frames = plan, images
        self._run_lengths: dict[int, list[dict[str, Any] | None]] = {one.number: [] for one in plan.objects}
        self._images = self._root / "JPEGImages" / plan.name
        if images is not None:
            self._images.mkdir(parents=True)

    def put(self, frame: int) -> None:
        """Write one frame."""
        for masks in self._run_lengths.values():
            masks.append(None)
        for found in self._plan.masks(frame):
            self._run_lengths[found.object.number][-1] = encode_run_lengths(found.mask, self._plan.size, found.corner)
        if self._frames is not None:
            self._frames.write_jpeg(self._images / f"{frame_name(frame)}.jpg", frame)

    def end(self) -> tuple[str, ...]:
        """Write the masks of the video."""
        plan, before = self._plan, self._num_annotations
        for number, masks in self._run_lengths.items():
            comma = ",\n" if self._num_annotations else "\n"
            self._masks.write(f'{comma}"{before + number - 1}": {json.dumps(masks)}')
            self._num_annotations += 1
        asked = {}
        for track, labelled in enumerate(plan.tracks):
            numbers = [one.number - 1 for one in plan.objects_of(track)]
            text = labelled.query.text or labelled.query.name
            asked[str(track)] = {"exp": text, "obj_id": numbers, "anno_id": [before + number for number in numbers]}
        self._videos[plan.name] = {
            "expressions": asked,
            "vid_id": len(self._videos),
            "frames": [frame_name(frame) for frame in plan.frames],
        }
        named = [track.query.name for track in plan.tracks if not track.query.text]
        return tuple(
            f"{plan.name}: “{name}” followed a mask without words; the name is the expression." for name in named
        )

    def finish(self) -> tuple[str, ...]:
        """Write the expressions, and close the file of masks."""
        self._masks.write("\n}\n")
        self._masks.close()
        write_json(self._root / "meta_expressions.json", {"videos": self._videos})
        return ()

    def close(self) -> None:
        """Let go of the file."""
        self._masks.close()
