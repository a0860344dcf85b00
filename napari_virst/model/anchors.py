"""TDAU, the Temporal Dynamic Anchor Updater: which remembered frames condition frame t.

Pure functions: frame numbers in, frame numbers out. Paper §3.3; the reference behaviour is
``docs/model.md`` §Memory.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Set

    from napari_virst.records import Span

Direction = Literal[1, -1]


@dataclass(frozen=True)
class MemorySelection:
    """The remembered frames that one frame reads."""

    anchors: tuple[int, ...]
    """Anchor frames, nearest before and after first."""
    recent: tuple[int, ...]
    """FIFO memory: other frames within reach behind the direction of travel, farthest first."""
    pointers: tuple[int, ...]
    """Frames whose object pointer is read: selected anchors not ahead of the frame, then recent frames."""


def spread_anchors(num_frames: int, num_anchors: int | None = None) -> tuple[int, ...]:
    """Return the positions of the model anchors among ``num_frames`` segmentation frames.

    ``round(linspace(0, T - 1, k))`` with k = max(1, T // 4), halves to even; one frame, or k = 1, gives (0,).
    ``num_anchors`` overrides k.
    """
    k = num_anchors or max(1, num_frames // 4)
    k = min(k, num_frames)
    if k == 1:
        return (0,)
    return tuple(round(i * (num_frames - 1) / (k - 1)) for i in range(k))


def select_anchors(
    frame: int, anchors: Collection[int], max_anchors: int, user_anchors: Set[int] = frozenset()
) -> tuple[int, ...]:
    """Choose up to ``max_anchors`` anchors for ``frame``.

    The nearest anchor before it, the nearest at or after it, then the others by distance. At equal distance a user
    anchor wins, then the earlier frame. The nearest user anchor is always chosen: it takes the last place if need be.

    Parameters
    ----------
    frame
        The frame to be conditioned.
    anchors
        Frames of all anchors.
    max_anchors
        α; negative for no limit.
    user_anchors
        The anchors that a person vouches for. Empty reproduces the published rule.
    """
    ordered = sorted(anchors)
    if max_anchors < 0 or len(ordered) <= max_anchors:
        return tuple(ordered)
    before = max((a for a in ordered if a < frame), default=None)
    after = min((a for a in ordered if a >= frame), default=None)
    chosen = [a for a in (before, after) if a is not None][:max_anchors]
    rest = sorted((a for a in ordered if a not in chosen), key=lambda a: (abs(a - frame), a not in user_anchors, a))
    chosen += rest[: max_anchors - len(chosen)]
    users = sorted((a for a in ordered if a in user_anchors), key=lambda a: (abs(a - frame), a))
    if users and chosen and users[0] not in chosen:
        farthest = max(chosen, key=lambda a: (a not in user_anchors, abs(a - frame)))
        chosen[chosen.index(farthest)] = users[0]
    return tuple(chosen)


def select_memory(
    frame: int,
    anchors: Collection[int],
    tracked: Collection[int],
    *,
    max_anchors: int,
    num_fifo_frames: int,
    num_pointer_frames: int,
    direction: Direction = 1,
    user_anchors: Set[int] = frozenset(),
) -> MemorySelection:
    """Choose everything that ``frame`` reads from memory.

    Parameters
    ----------
    frame
        The frame to be decoded.
    anchors, tracked
        Remembered frames: anchors, and frames followed so far in this direction.
    max_anchors, num_fifo_frames
        α and P.
    num_pointer_frames
        How many frames back object pointers are read, the present frame counted.
    direction
        1 when time runs forward, -1 when it runs backward.
    user_anchors
        See :func:`select_anchors`.
    """
    chosen = select_anchors(frame, anchors, max_anchors, user_anchors)
    others = (set(tracked) | set(anchors)) - set(chosen)
    recent = tuple(
        frame - direction * distance
        for distance in range(num_fifo_frames, 0, -1)
        if frame - direction * distance in others
    )
    behind = tuple(a for a in chosen if (frame - a) * direction >= 0)
    trail = tuple(
        frame - direction * distance
        for distance in range(1, num_pointer_frames)
        if frame - direction * distance in others
    )
    return MemorySelection(anchors=chosen, recent=recent, pointers=behind + trail)


@dataclass(frozen=True)
class Leg:
    """A run of frames followed in one direction."""

    frames: tuple[int, ...]
    """In the order they are computed."""
    direction: Direction


def plan_legs(
    span: Span,
    origins: Collection[int],
    focus_frame: int | None = None,
    *,
    absent: Collection[int] = (),
    meet: bool = True,
) -> tuple[Leg, ...]:
    """Plan the order in which the frames of ``span`` are followed from trusted frames.

    Between two origins frames are followed from the nearer one: forward from the earlier, backward from the later, so
    that no mask is farther from its origin than it has to be. Where one of the two says "not here" there is nothing to
    follow from it, and the other one has all frames. Frames before the first origin are followed backward. The legs
    around the focus come first. Every frame of the span that is no origin appears exactly once.

    Parameters
    ----------
    span
        Frames to compute.
    origins
        Frames with a trusted mask, inside the span or outside it.
    focus_frame
        The frame the person is looking at; the first origin where None.
    absent
        Origins that say "not here".
    meet
        False follows every gap forward from its earlier origin.
    """
    starts = sorted(origins)
    if not starts:
        frames = tuple(span)
        return (Leg(frames, 1),) if frames else ()
    centre = min(starts, key=lambda o: abs(o - focus_frame)) if focus_frame is not None else starts[0]
    gaps = zip([None, *starts], [*starts, None], strict=True)
    legs = []
    for left, right in gaps:
        first = span.start if left is None else max(span.start, left + 1)
        last = span.stop if right is None else min(span.stop, right)
        middle = _first_nearer_to_right(left, right, absent) if meet or left is None else sys.maxsize
        ahead, back = range(first, min(last, middle)), range(max(first, middle), last)
        legs += [Leg(tuple(ahead), 1)] if ahead else []
        legs += [Leg(tuple(back)[::-1], -1)] if back else []
    return tuple(sorted(legs, key=lambda leg: (abs(leg.frames[0] - centre), -leg.direction)))


def _first_nearer_to_right(left: int | None, right: int | None, absent: Collection[int]) -> int:
    """Return where following from the left ends and following from the right begins."""
    if left is None:
        return 0
    if right is None or (right in absent and left not in absent):
        return sys.maxsize
    if left in absent and right not in absent:
        return 0
    return (left + right) // 2 + 1
