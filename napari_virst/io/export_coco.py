"""COCO: one JSON file of images, annotations and categories, cocodataset.org/#format-data.

Masks are compressed run lengths with ``iscrowd`` 0, so that holes, pieces and overlaps are kept to the pixel.
``video_id`` and ``frame_index`` of an image, ``track_id`` of an annotation and ``videos`` are those of TAO and of
COCO-like video sets; readers that do not know them pass over them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_virst.io.export_writing import frame_name
from napari_virst.io.run_lengths import encode_run_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.io.export_plan import ExportPlan, ObjectMask
    from napari_virst.io.export_writing import FrameImages


class CocoWriter:
    """Writes ``annotations.json``, annotations as they come, and ``images/<video>/00000.jpg``.

    Parameters
    ----------
    root
        The folder.
    """

    max_objects = (1 << 16) - 1

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = (root / "annotations.json").open("w", encoding="utf-8")
        self._file.write('{"annotations": [')
        self._num_annotations = 0
        self._images: list[dict[str, Any]] = []
        self._videos: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._num_objects = self._num_objects_before = 0

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        self._plan, self._frames = plan, images
        num_frames, height, width = plan.video.shape
        shape = {"width": width, "height": height, "length": num_frames}
        self._videos.append({"id": len(self._videos) + 1, "name": plan.name, **shape})
        for track in plan.tracks:
            self._categories.setdefault(track.query.name, len(self._categories) + 1)
        if images is not None:
            (self._root / "images" / plan.name).mkdir(parents=True)

    def put(self, frame: int) -> None:
        """Write one frame."""
        height, width = self._plan.size
        image = {
            "id": len(self._images) + 1,
            "file_name": f"{self._plan.name}/{frame_name(frame)}.jpg",
            "width": width,
            "height": height,
            "video_id": len(self._videos),
            "frame_index": frame,
        }
        self._images.append(image)
        for found in self._plan.masks(frame):
            self._write(self._annotation(found))
        if self._frames is not None:
            self._frames.write_jpeg(self._root / "images" / str(image["file_name"]), frame)

    def _annotation(self, found: ObjectMask) -> dict[str, Any]:
        y, x = found.corner
        height, width = found.mask.shape
        return {
            "id": self._num_annotations + 1,
            "image_id": len(self._images),
            "category_id": self._categories[self._plan.name_of(found.object)],
            "segmentation": encode_run_lengths(found.mask, self._plan.size, found.corner),
            "area": found.area_px,
            "bbox": [x, y, width, height],
            "iscrowd": 0,
            "track_id": self._num_objects_before + found.object.number,
            "instance_id": found.object.label,
        }

    def _write(self, annotation: dict[str, Any]) -> None:
        self._file.write((",\n" if self._num_annotations else "\n") + json.dumps(annotation))
        self._num_annotations += 1

    def end(self) -> tuple[str, ...]:
        """End the video."""
        self._num_objects_before += len(self._plan.objects)
        return ()

    def finish(self) -> tuple[str, ...]:
        """Write images and categories, and close the file."""
        rest = {
            "images": self._images,
            "videos": self._videos,
            "categories": [
                {"id": number, "name": name, "supercategory": "object"} for name, number in self._categories.items()
            ],
            "info": {"description": "exported by napari-virst"},
            "licenses": [],
        }
        self._file.write("\n], " + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
        self._file.close()
        return ()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
