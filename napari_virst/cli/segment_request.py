"""What was typed for ``napari-virst segment``, read and checked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_virst.cli.report import note
from napari_virst.errors import InputError, MaskError, QueryError
from napari_virst.io.masks import read_mask, values_in_mask
from napari_virst.records import Anchor, Query

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT = "absent"


@dataclass(frozen=True)
class CorrectionArgument:
    """``FRAME=MASK`` as typed; MASK is a file, or "absent"."""

    frame: int
    mask: str

    @classmethod
    def parse(cls, text: str) -> CorrectionArgument:
        """Read ``FRAME=MASK``.

        Raises
        ------
        MaskError
            When it has another form.
        """
        match = re.fullmatch(r"\s*(\d+)\s*=\s*(.+)", text)
        if match is None:
            raise MaskError(
                f'--correct must be FRAME=MASK, e.g. 0=first.png or 12=absent; got "{text}"; count frames from 0.'
            )
        mask = match[2].strip()
        return cls(int(match[1]), ABSENT if mask.lower() == ABSENT else mask)


@dataclass(frozen=True)
class SegmentRequest:
    """What was typed, but for the model."""

    video: str
    queries: tuple[str, ...]
    out: Path
    corrections: tuple[str, ...] = ()
    """Each ``FRAME=MASK``."""
    label: int | None = None
    """Which value of the mask files is the object."""
    region: str | None = None
    axes: str | None = None
    channel: int | None = None
    z: str | None = None
    frames_sampled: str | None = None
    excluded_anchors: tuple[int, ...] = ()
    learn: bool = False
    model_options: Mapping[str, str] = field(default_factory=dict)
    """What was typed of how the model runs: names of options and their values."""

    @property
    def typed(self) -> dict[str, Any]:
        """What changes the answer beside video, queries and model, as typed: names of options and their values."""
        options = {
            "correct": self.corrections,
            "label": self.label,
            "region": self.region,
            "axes": self.axes,
            "channel": self.channel,
            "z": self.z,
            "frames_sampled": self.frames_sampled,
            "exclude_anchor": self.excluded_anchors,
            "learn": self.learn,
        }
        given = {
            name: value for name, value in options.items() if value is not None and value is not False and value != ()
        }
        return {**given, **self.model_options}

    @property
    def source(self) -> str:
        """Path of the video, in full."""
        return str(Path(self.video).expanduser().resolve())

    @property
    def plane(self) -> int | Literal["max", "mean"] | None:
        """The Z plane as ``open_video`` takes it."""
        return as_plane(self.z)


def model_options(
    preset: str | None, dtype: str, quantize: str | None, use_initial_fusion: bool | None = None
) -> dict[str, str]:
    """Return the options typed under which a model may answer otherwise, by name."""
    fusion = None if use_initial_fusion is None else str(use_initial_fusion).lower()
    precision = None if dtype == "auto" else dtype
    options = {"preset": preset, "dtype": precision, "quantize": quantize, "initial_fusion": fusion}
    return {name: value for name, value in options.items() if value is not None}


def as_plane(text: str | None) -> int | Literal["max", "mean"] | None:
    """Return a Z plane as ``open_video`` takes it, which checks the words."""
    return int(text) if text is not None and text.isdigit() else text  # type: ignore[return-value]


def read_anchors(
    corrections: list[CorrectionArgument], shape: tuple[int, int, int], label: int | None
) -> tuple[Anchor, ...]:
    """Read the masks of ``--correct`` as user anchors, one per frame, in order.

    Raises
    ------
    MaskError
        When a frame is outside the video or given twice, or a mask does not fit.
    """
    if label is not None and label < 1:
        raise MaskError(f"--label must be a value of the object, 1 or more; got {label}; 0 is the background.")
    num_frames, height, width = shape
    anchors: dict[int, Anchor] = {}
    for correction in corrections:
        if correction.frame >= num_frames or correction.frame in anchors:
            problem = "given twice" if correction.frame in anchors else f"beyond the last frame, {num_frames - 1}"
            raise MaskError(
                f"--correct must name frames from 0 to {num_frames - 1}, each once; got frame {correction.frame}, "
                f"which is {problem}; correct it."
            )
        if correction.mask == ABSENT:
            mask = np.zeros((height, width), np.bool_)
        else:
            mask = read_mask(correction.mask, (height, width), label=label)
            if not mask.any():
                problem = "it is empty" if label is None else f"no pixel has the value {label} of --label"
                raise MaskError(
                    f'The mask "{correction.mask}" must show the object; {problem}; '
                    f'say "{correction.frame}={ABSENT}" where the object cannot be seen.'
                )
            if label is None:
                _note_several_values(correction.mask)
        anchors[correction.frame] = Anchor(correction.frame, mask)
    return tuple(anchors[frame] for frame in sorted(anchors))


def _note_several_values(mask: str) -> None:
    values = values_in_mask(mask)
    if len(values) > 1:
        listed = ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
        note(f"{mask} holds the values {listed}: all of them are taken as the object; --label picks one.")


def plan_queries(texts: tuple[str, ...], corrections: list[CorrectionArgument]) -> list[Query]:
    """Turn what was typed into queries; a mask alone is followed under the name "object".

    Raises
    ------
    QueryError
        When there is nothing to follow, or masks come with several queries.
    """
    if corrections and len(texts) > 1:
        raise QueryError(f"--correct must come with one query; got {len(texts)}; run them one after the other.")
    if not texts and not corrections:
        raise QueryError('Give a query, e.g. "the red circle", or a mask, e.g. --correct 0=first.png; got neither.')
    if not texts and all(correction.mask == ABSENT for correction in corrections):
        raise QueryError(
            "What to follow must be said by a query or shown by a mask; got only frames without the object; "
            'add a query, e.g. "the red circle", or a mask, e.g. --correct 0=first.png.'
        )
    if files := [text for text in texts if _names_file(text)]:
        raise QueryError(
            f'A query must be words, e.g. "the red circle"; got "{files[0]}", which is a file; '
            "segment takes one video at a time, batch takes many before -q, and masks come by segment --correct."
        )
    return [Query(text) for text in texts] or [Query("", name="object")]


def _names_file(text: str) -> bool:
    """Whether a text is the name of a file; a plain word beside a file of that name is still a word."""
    return bool(os.path.splitext(text)[1]) and os.path.isfile(text)  # Path.is_file raises for names that are too long


def check_excluded(frames: tuple[int, ...], num_frames: int) -> frozenset[int]:
    """Return the frames of ``--exclude-anchor``.

    Raises
    ------
    InputError
        When one is outside the video.
    """
    if outside := [frame for frame in frames if not 0 <= frame < num_frames]:
        raise InputError(f"--exclude-anchor must name frames from 0 to {num_frames - 1}; got {outside[0]}; correct it.")
    return frozenset(frames)
