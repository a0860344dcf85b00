"""The common words as frozen dataclasses (numpy only).

Axis order is always (T, H, W) and (y, x); T counts frames from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import MaskError, QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


class Provenance(IntEnum):
    """Where the mask of one frame comes from. The numbers are stored on disk and never change."""

    EMPTY = 0
    """Nothing has been computed or painted yet."""
    PREDICTED = 1
    """Decoded from ST prompts: the frame is a model anchor."""
    PROPAGATED = 2
    """Followed from anchors through memory."""
    CORRECTED = 3
    """Painted, given, or declared empty by a person: the frame is a user anchor."""
    ACCEPTED = 4
    """Looked at and accepted by a person: the frame is a user anchor."""

    @property
    def is_users(self) -> bool:
        """Whether the frame belongs to a person, so that no run may change it."""
        return self >= Provenance.CORRECTED


class AnchorKind(StrEnum):
    """Who vouches for an anchor."""

    MODEL = "model"
    """The mask comes from ST prompts."""
    USER = "user"
    """A person painted, gave or accepted the mask, or declared it empty."""


@dataclass(frozen=True)
class Query:
    """What to follow.

    A query without text follows a mask alone; it needs a user anchor before it can run.
    """

    text: str
    """The words, as typed; white space at the ends removed. Empty for a mask-only track."""
    name: str = ""
    """What layers and files are called; the text where it is empty."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()))
        if not self.name:
            object.__setattr__(self, "name", self.text)
        if not self.name:
            raise QueryError('A query must have words or a name; got ""; type what to follow, e.g. "the red circle".')


@dataclass(frozen=True, order=True)
class Span:
    """A run of frames ``start, …, stop - 1``."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"A span must have 0 <= start <= stop; got {self.start}..{self.stop}.")

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, int) and self.start <= frame < self.stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __str__(self) -> str:
        return f"frames {self.start}–{self.stop - 1}" if len(self) else "no frames"


@dataclass(frozen=True, eq=False)
class Anchor:
    """A frame that conditions the memory of other frames."""

    frame: int
    mask: NDArray[np.bool_]
    """(H, W) bool at video size; all False says "not here"."""
    kind: AnchorKind = AnchorKind.USER

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise MaskError(
                f"The mask of an anchor must be (H, W) bool; got {self.mask.shape} {self.mask.dtype}; "
                "compare it with 0 before passing it on."
            )

    @property
    def is_absent(self) -> bool:
        """Whether the anchor says that the object cannot be seen on this frame."""
        return not bool(self.mask.any())


@dataclass(frozen=True)
class Job:
    """One request to a segmenter: follow a query along a span of a video."""

    query: Query
    span: Span
    """The frames to compute. Frames of user anchors inside it are conditioned on, never returned."""
    anchors: tuple[Anchor, ...] = ()
    """The user anchors of the track, inside the span or not, sorted by frame, one per frame; far from the span those
    that nearer ones keep from being read may be left out, their frames excluded."""
    excluded_anchors: frozenset[int] = frozenset()
    """Frames whose model anchor must not be used (deleted)."""
    pinned_anchors: frozenset[int] = frozenset()
    """Frames whose model anchor is used even where the user anchors contradict it."""
    focus_frame: int | None = None
    """The frame the person is looking at; propagation starts at the anchor nearest to it."""
    revision: int = 0
    """Counts requests of one track; results of an older revision are dropped."""
    known_mask: Callable[[int], NDArray[np.bool_] | None] | None = None
    """The mask (H, W) bool that the track holds for a frame now, None where it holds none; asked from the worker's
    thread. With it, following away from an anchor may end early where its answers agree again with what is held."""
    learn: bool = False
    """Whether the segmenter may adapt itself, for this job alone, to the user anchors, before the first frame."""
    adapter: str = ""
    """Name of what was learned earlier (:attr:`Learned.name`), to follow with; an unknown one changes nothing."""


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What a segmenter says of one frame."""

    frame: int
    mask: NDArray[np.bool_]
    """(H, W) bool at video size."""
    presence: float
    """Probability that the object is visible, 0…1."""
    predicted_iou: float
    """The model's own estimate of the IoU of this mask, 0…1; NaN where it has none."""
    provenance: Provenance
    """PREDICTED on a model anchor, PROPAGATED elsewhere."""
    revision: int = 0
    agreement: float = math.nan
    """Where language answered for this frame and user anchors were there to ask: IoU of its mask with theirs, 0…1."""
    is_demoted: bool = False
    """Whether the frame would be a model anchor, had the user anchors not contradicted it."""


@dataclass(frozen=True)
class Learned:
    """What came of learning from corrections."""

    num_corrections: int
    """Corrected frames that it was tried on."""
    iou_before: float
    """Mean IoU, 0…1, on each corrected frame when only the others are known."""
    iou_after: float
    """The same after learning from the others."""
    helped: bool
    """Whether that was better by so much that it is used."""
    name: str = ""
    """For :attr:`Job.adapter`, as long as the segmenter lives."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come."""

    num_done: int
    num_total: int
    elapsed_s: float
    stage: str = ""
    """What is going on, in a few words ("waking the model", "following")."""
    track_ids: tuple[str, ...] = ()
    """Whose job it is; several where queries run together."""

    @property
    def frames_per_s(self) -> float:
        """Frames finished per second so far; 0 before the first."""
        return self.num_done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float:
        """Seconds left at the present rate; NaN while no rate is known."""
        if not self.num_done:
            return math.nan
        return (self.num_total - self.num_done) / self.frames_per_s


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the provenance ledger: who did what to which frames, and when."""

    action: str
    track: str
    frames: tuple[int, ...] = ()
    detail: dict[str, str | int | float] = field(default_factory=dict)
    time_iso: str = ""
