"""DAVIS and YouTube-VOS: one palette image per frame, whose values are objects.

===========  ==========================================  ============================================================
format       folders                                     beside them
===========  ==========================================  ============================================================
davis        JPEGImages/<video>, Annotations/<video>     ImageSets/2017/<split>.txt: names of videos
youtube-vos  <split>/JPEGImages/<video>,                 <split>/meta.json: objects, what they are, frames that show
             <split>/Annotations/<video>                 them; meta_expressions/<split>/meta_expressions.json: queries
===========  ==========================================  ============================================================

Files are 00000.png and 00000.jpg by number of frame; the layout of expressions is that of Ref-YouTube-VOS, which
:mod:`napari_virst.io.datasets` reads. davischallenge.org, youtube-vos.org, github.com/wjn922/ReferFormer
(docs/data.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_virst.io.export_plan import Flattening
from napari_virst.io.export_writing import frame_name, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.io.export_plan import ExportPlan
    from napari_virst.io.export_writing import FrameImages


def voc_palette() -> NDArray[np.uint8]:
    """Return the (256, 3) uint8 colours of PASCAL VOC, which DAVIS and YouTube-VOS use.

    The bits of a number, from the lowest on, go to red, green and blue in turn, the highest bits of each first.
    """
    palette = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256)
    for bit in range(8):
        palette[:, bit % 3] |= (((numbers >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


class DavisWriter:
    """Writes palette images and, where they are given, frames.

    Parameters
    ----------
    root
        The folder.
    split
        Name of the list of videos.
    """

    max_objects = 254
    """255 stands for "not annotated" in some readers."""

    def __init__(self, root: Path, split: str) -> None:
        self._root, self._split = root, split
        self._names: list[str] = []
        self._palette = voc_palette().tobytes()

    @property
    def _data_root(self) -> Path:
        return self._root

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        self._plan, self._frames, self._flattening = plan, images, Flattening(plan)
        self._names.append(plan.name)
        self._annotations = self._data_root / "Annotations" / plan.name
        self._annotations.mkdir(parents=True)
        if images is not None:
            self._images = self._data_root / "JPEGImages" / plan.name
            self._images.mkdir(parents=True)

    def put(self, frame: int) -> None:
        """Write one frame."""
        flat = self._flattening.flat(frame).astype(np.uint8)
        image = Image.fromarray(flat)
        image.putpalette(self._palette)
        image.save(self._annotations / f"{frame_name(frame)}.png")
        if self._frames is not None:
            self._frames.write_jpeg(self._images / f"{frame_name(frame)}.jpg", frame)
        self._note_shown(frame, np.flatnonzero(np.bincount(flat.ravel())).tolist())

    def _note_shown(self, frame: int, numbers: list[int]) -> None:
        """For those who list which frame shows what."""

    def end(self) -> tuple[str, ...]:
        """End the video."""
        return self._flattening.notes

    def finish(self) -> tuple[str, ...]:
        """Write the list of videos."""
        path = self._root / "ImageSets" / "2017" / f"{self._split}.txt"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{name}\n" for name in self._names), encoding="utf-8")
        return ()


class YoutubeVosWriter(DavisWriter):
    """Writes palette images and frames, and lists of objects and of expressions."""

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self._videos: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}

    @property
    def _data_root(self) -> Path:
        return self._root / self._split

    def begin(self, plan: ExportPlan, images: FrameImages | None) -> None:
        """Start a video."""
        super().begin(plan, images)
        self._shown: dict[int, list[str]] = {one.number: [] for one in plan.objects}

    def _note_shown(self, frame: int, numbers: list[int]) -> None:
        for number in numbers:
            if number:
                self._shown[number].append(frame_name(frame))

    def end(self) -> tuple[str, ...]:
        """End the video."""
        plan = self._plan
        objects = {
            str(one.number): {"category": plan.name_of(one), "frames": self._shown[one.number]}
            for one in plan.objects
            if self._shown[one.number]
        }
        self._videos[plan.name] = {"objects": objects}
        asked = {str(number): self._expression(number) for number in range(len(plan.tracks))}
        self._asked[plan.name] = {"expressions": asked, "frames": [frame_name(frame) for frame in plan.frames]}
        return (*super().end(), *self._notes(plan))

    def _expression(self, track: int) -> dict[str, Any]:
        query = self._plan.tracks[track].query
        numbers = [str(one.number) for one in self._plan.objects_of(track)]
        return {"exp": query.text or query.name, "obj_id": numbers[0] if len(numbers) == 1 else numbers}

    def _notes(self, plan: ExportPlan) -> tuple[str, ...]:
        listed = [t.query.name for n, t in enumerate(plan.tracks) if len(plan.objects_of(n)) > 1]
        named = [track.query.name for track in plan.tracks if not track.query.text]
        notes = []
        if listed:
            notes.append(
                f"{plan.name}: obj_id is a list for {_quoted(listed)}, which stand for several objects; "
                "Ref-YouTube-VOS itself has one object per expression."
            )
        if named:
            notes.append(f"{plan.name}: {_quoted(named)} followed a mask without words; the name is the expression.")
        return tuple(notes)

    def finish(self) -> tuple[str, ...]:
        """Write the lists."""
        write_json(self._data_root / "meta.json", {"videos": self._videos})
        listing = self._root / "meta_expressions" / self._split / "meta_expressions.json"
        write_json(listing, {"videos": self._asked})
        return ()


def _quoted(names: list[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
