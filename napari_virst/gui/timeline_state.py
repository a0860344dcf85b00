"""What a timeline shows, and how frames become columns of pixels: pure, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.records import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

COLORS = {
    Provenance.EMPTY: (128, 128, 128, 60),
    Provenance.PREDICTED: (0, 114, 178, 255),
    Provenance.PROPAGATED: (86, 180, 233, 255),
    Provenance.CORRECTED: (230, 159, 0, 255),
    Provenance.ACCEPTED: (0, 158, 115, 255),
}
"""RGBA 0…255. Okabe and Ito's palette, for colour-blind eyes too: jfly.uni-koeln.de/color."""


def _nothing_known(frame: int) -> str:
    return f"frame {frame}"


@dataclass(frozen=True, eq=False)
class TimelineState:
    """What the strip shows of one track."""

    provenances: NDArray[np.uint8]
    """(T,) numbers of :class:`Provenance`."""
    locked: NDArray[np.bool_]
    """(T,)."""
    doubts: NDArray[np.float64]
    """(T,) 0…1; NaN where nothing is known."""
    user_anchors: tuple[int, ...] = ()
    model_anchors: tuple[int, ...] = ()
    """Those in use."""
    demoted: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    pinned: frozenset[int] = frozenset()
    describe: Callable[[int], str] = field(default=_nothing_known, repr=False)
    """Says what is known of a frame, in a few lines; asked when a tooltip is wanted."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.provenances)

    @property
    def marks(self) -> tuple[int, ...]:
        """Every frame that wears a mark."""
        return (*self.user_anchors, *self.model_anchors, *self.demoted, *self.excluded)


@dataclass(frozen=True, eq=False)
class Columns:
    """A state, as wide as the screen has pixels."""

    colors: NDArray[np.uint8]
    """(W, 4) RGBA."""
    locked: NDArray[np.bool_]
    """(W,)."""
    doubts: NDArray[np.float64]
    """(W,) the worst of the frames in a column; NaN where nothing is known of any."""


def columns(state: TimelineState, width: int) -> Columns:
    """Gather frames into ``width`` columns of pixels, the most telling frame of each deciding.

    What a person did outshines what the model did, and that what is empty: a single corrected frame among a hundred
    stays visible.
    """
    starts = np.arange(width) * state.num_frames // width
    provenances = np.maximum.reduceat(state.provenances, starts)
    doubts = np.fmax.reduceat(state.doubts, starts)
    table = np.array([COLORS[one] for one in Provenance], np.uint8)
    return Columns(table[provenances], np.logical_or.reduceat(state.locked, starts), doubts)


def legend() -> str:
    """Name the colours and marks of the timeline, as rich text."""
    named = [(one, one.name.lower()) for one in Provenance if one is not Provenance.EMPTY]
    squares = [f'<span style="color:{_hex(one)}">■</span>&nbsp;{name}' for one, name in named]
    marks = [
        f'<span style="color:{_hex(Provenance.CORRECTED)}">▼</span>&nbsp;your&nbsp;anchor',
        f'<span style="color:{_hex(Provenance.PROPAGATED)}">◇</span>&nbsp;found&nbsp;by&nbsp;language',
        "▁&nbsp;locked",
        "∿&nbsp;doubt",
    ]
    return "<small>" + " &nbsp;".join([*squares, *marks]) + "</small>"


def _hex(provenance: Provenance) -> str:
    red, green, blue, _ = COLORS[provenance]
    return f"#{red:02x}{green:02x}{blue:02x}"
