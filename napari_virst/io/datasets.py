"""Benchmarks of videos with expressions, read where they lie: MeViS, Ref-YouTube-VOS, Ref-DAVIS17, ReVOS.

======================  ==============================================  ======================  =======================
benchmark               expressions                                     frames                  true masks
======================  ==============================================  ======================  =======================
mevis                   <split>/meta_expressions.json                   <split>/JPEGImages      <split>/mask_dict.json
ref-youtube-vos         meta_expressions/<split>/meta_expressions.json  <split>/JPEGImages      <split>/Annotations
ref-davis               meta_expressions/<split>/meta_expressions.json  <split>/JPEGImages      <split>/Annotations
revos                   meta_expressions_<split>_.json                  JPEGImages              mask_dict.json
======================  ==============================================  ======================  =======================

``mask_dict.json`` holds COCO run lengths per annotation and frame, ``Annotations`` palette images whose values are
objects. The truth of an expression is the union of the objects it refers to; of none of them, an empty mask.
Layouts: github.com/henghuiding/MeViS, github.com/wjn922/ReferFormer (docs/data.md), github.com/cilinyan/ReVOS-api.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_virst.errors import InputError, MaskError
from napari_virst.io.image_frames import ImageFrames
from napari_virst.io.masks import read_mask
from napari_virst.io.run_lengths import decode_run_lengths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_REVOS_TYPES = {0: "referring", 1: "reasoning", 2: "hallucination"}
_NUM_DAVIS_SETS = 4


class Benchmark(StrEnum):
    """Names of the benchmarks."""

    MEVIS = "mevis"
    REF_YOUTUBE_VOS = "ref-youtube-vos"
    REF_DAVIS = "ref-davis"
    REVOS = "revos"


@dataclass(frozen=True)
class _Layout:
    expressions: str
    images: str
    masks: str


_LIKE_YOUTUBE_VOS = _Layout("meta_expressions/{}/meta_expressions.json", "{}/JPEGImages", "{}/Annotations")
_LAYOUTS = {
    Benchmark.MEVIS: _Layout("{}/meta_expressions.json", "{}/JPEGImages", "{}/mask_dict.json"),
    Benchmark.REF_YOUTUBE_VOS: _LIKE_YOUTUBE_VOS,
    Benchmark.REF_DAVIS: _LIKE_YOUTUBE_VOS,
    Benchmark.REVOS: _Layout("meta_expressions_{}_.json", "JPEGImages", "mask_dict.json"),
}


@dataclass(frozen=True)
class Expression:
    """One sentence about one video of a benchmark."""

    video: str
    expression_id: str
    text: str
    frames: tuple[str, ...]
    """Names of the frames without ending, in order."""
    targets: tuple[str, ...] | None
    """What it refers to: annotations (run lengths) or values (palette images); None where that is not published."""
    group: str = ""
    """Ref-DAVIS: "set 1" to "set 4"; ReVOS: "referring", "reasoning" or "hallucination"; else empty."""


class _Truth(Protocol):
    def frames(self, expression: Expression) -> tuple[int, ...]: ...

    def mask(self, expression: Expression, frame: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None: ...


class ExpressionDataset:
    """One split of a benchmark. Made by :func:`open_dataset`.

    Parameters
    ----------
    benchmark, folder, split
        Which one, and where it lies.
    expressions
        All of its expressions, videos one after another.
    truth
        Where true masks come from; None where they are not published.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        folder: Path,
        split: str,
        expressions: tuple[Expression, ...],
        truth: _Truth | None,
    ) -> None:
        self.benchmark, self.folder, self.split = benchmark, folder, split
        self.expressions = expressions
        self._truth = truth
        self._by_video: dict[str, list[Expression]] = {}

    def open_frames(self, expression: Expression) -> ImageFrames:
        """Open the frames of an expression's video.

        Raises
        ------
        VideoError
            When the first of them is missing or damaged.
        """
        images = self.folder / _LAYOUTS[self.benchmark].images.format(self.split) / expression.video
        return ImageFrames(tuple(images / f"{name}.jpg" for name in expression.frames))

    def truth(self, expression: Expression, frame: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the union of what an expression refers to, (H, W) bool, or None on a frame without annotation.

        Raises
        ------
        MaskError
            When the mask is damaged or not of size ``shape``.
        """
        if self._truth is None or expression.targets is None:
            return None
        return self._truth.mask(expression, frame, shape)

    def foreground(self, expression: Expression, frame: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the union of what any expression about the same video refers to, (H, W) bool; of ReVOS alone.

        Raises
        ------
        MaskError
            See :meth:`truth`.
        """
        if self.benchmark is not Benchmark.REVOS:
            return None
        together = (e.targets or () for e in self._of_video(expression.video))
        everything = dict.fromkeys(target for targets in together for target in targets)
        return self.truth(replace(expression, targets=tuple(everything)), frame, shape)

    def _of_video(self, video: str) -> list[Expression]:
        if not self._by_video:
            for expression in self.expressions:
                self._by_video.setdefault(expression.video, []).append(expression)
        return self._by_video[video]

    def annotated_frames(self, expression: Expression) -> tuple[int, ...]:
        """Return the frames whose true mask is known, in order; none where it is not published."""
        return () if self._truth is None or expression.targets is None else self._truth.frames(expression)


def open_dataset(folder: str | Path, benchmark: str | Benchmark, split: str = "valid") -> ExpressionDataset:
    """Read the expressions of one split of a benchmark; frames and masks are read when they are asked for.

    Parameters
    ----------
    folder
        The benchmark's own folder.
    benchmark
        "mevis", "ref-youtube-vos", "ref-davis" or "revos".
    split
        "train", "valid", of MeViS also "valid_u" (with masks).

    Raises
    ------
    InputError
        When there is no such benchmark, the folder does not hold such a split, or a file in it is malformed.
    """
    if benchmark not in list(Benchmark):
        raise InputError(f'A benchmark must be one of {", ".join(Benchmark)}; got "{benchmark}".')
    folder, benchmark = Path(folder).expanduser(), Benchmark(benchmark)
    layout = _LAYOUTS[benchmark]
    listing = folder / layout.expressions.format(split)
    videos = _videos(listing, benchmark)
    if benchmark is Benchmark.REF_YOUTUBE_VOS and split == "valid":
        # Published as one list with the test videos, which no server scores as "valid".
        test = folder / layout.expressions.format("test")
        hidden = set(_videos(test, benchmark)) if test.is_file() else set()
        videos = {name: video for name, video in videos.items() if name not in hidden}
    try:
        expressions = tuple(_expressions(videos, benchmark))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'The expressions in "{listing}" must have the form of {benchmark}; got {error!r}.') from error
    return ExpressionDataset(benchmark, folder, split, expressions, _truth(folder / layout.masks.format(split)))


def _videos(listing: Path, benchmark: Benchmark) -> dict[str, Any]:
    if not listing.is_file():
        raise InputError(
            f'A folder of {benchmark} must hold "{listing.name}" for its split; there is no "{listing}"; '
            "check the folder, the name of the data set and the split."
        )
    content = _read_json(listing)
    if not isinstance(content, dict) or not isinstance(content.get("videos"), dict):
        raise InputError(f'"{listing}" must be a JSON object with "videos"; it is not; download it again.')
    videos: dict[str, Any] = content["videos"]
    return videos


def _read_json(path: Path) -> Any:  # noqa: ANN401 - whatever is in the file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f'"{path}" must be JSON; it cannot be read: {error}; download it again.') from error


def _expressions(videos: dict[str, Any], benchmark: Benchmark) -> Iterator[Expression]:
    for video, entry in videos.items():
        frames = tuple(_checked(str(frame)) for frame in entry["frames"])
        for position, (expression_id, item) in enumerate(entry["expressions"].items()):
            yield Expression(
                _checked(video),
                _checked(expression_id),
                " ".join(str(item["exp"]).split()),
                frames,
                _targets(item, benchmark),
                _group(item, position, benchmark),
            )


def _checked(name: str) -> str:
    """Refuse a name that would lead out of the folders we read and write."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f'A video, expression or frame must have a plain name; got "{name}"; check the list.')
    return name


def _targets(item: dict[str, Any], benchmark: Benchmark) -> tuple[str, ...] | None:
    uses_annotations = benchmark in (Benchmark.MEVIS, Benchmark.REVOS)
    found = item.get("anno_id" if uses_annotations else "obj_id")
    if found is None:
        return None
    return tuple(str(target) for target in (found if isinstance(found, list) else [found]))


def _group(item: dict[str, Any], position: int, benchmark: Benchmark) -> str:
    if benchmark is Benchmark.REF_DAVIS:
        # Two annotators, each with the first frame and with the whole video in view; listed object by object.
        return f"set {position % _NUM_DAVIS_SETS + 1}"
    return _REVOS_TYPES.get(item.get("type_id", -1), "") if benchmark is Benchmark.REVOS else ""


def _truth(path: Path) -> _Truth | None:
    if path.is_dir():
        return _PaletteMasks(path)
    return _RunLengthMasks(path) if path.is_file() else None


class _PaletteMasks:
    """Images whose values are objects; of some benchmarks only every fifth frame has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def frames(self, expression: Expression) -> tuple[int, ...]:
        return tuple(n for n in range(len(expression.frames)) if self._path(expression, n).is_file())

    def mask(self, expression: Expression, frame: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the true mask (H, W) bool of a frame from its image file; None where there is no file."""
        path = self._path(expression, frame)
        if not path.is_file():
            return None
        union = np.zeros(shape, np.bool_)
        for target in expression.targets or ():
            union |= read_mask(path, shape, label=int(target))
        return union

    def _path(self, expression: Expression, frame: int) -> Path:
        return self._folder / expression.video / f"{expression.frames[frame]}.png"


class _RunLengthMasks:
    """COCO run lengths per annotation, one per listed frame; null where the object cannot be seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._masks: dict[str, list[Any]] | None = None

    def frames(self, expression: Expression) -> tuple[int, ...]:
        return tuple(range(len(expression.frames)))

    def mask(self, expression: Expression, frame: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the union (H, W) bool of the run-length masks of the expression's objects on a frame."""
        if self._masks is None:
            self._masks = _read_json(self._path)
        union = np.zeros(shape, np.bool_)
        for target in expression.targets or ():
            try:
                run_lengths = self._masks[target][frame]
            except (KeyError, IndexError) as error:
                raise MaskError(
                    f'"{self._path}" must hold annotation {target} on every frame of {expression.video}; '
                    f"frame {frame} is missing; download it again."
                ) from error
            if run_lengths:
                union |= decode_run_lengths(run_lengths, shape)
        return union
