"""Which frames of a track are fixed, by whom, and which frames a correction can change."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_virst.errors import InputError
from napari_virst.records import AnchorKind, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AnchorState = Literal["used", "demoted", "excluded", "overridden"]


@dataclass(frozen=True)
class AnchorNote:
    """What the book knows of one anchor."""

    frame: int
    kind: AnchorKind
    state: AnchorState
    """``"used"``; ``"demoted"``: the user's evidence contradicts it; ``"excluded"``: a person deleted it;
    ``"overridden"``: a person fixed the same frame, and that anchor stands beside this one."""
    is_pinned: bool
    governs: Span
    """The frames nearer to it than to any other anchor in use; empty where it is not in use."""
    why: str
    """Why it is there, as it is, in a sentence."""


class AnchorBook:
    """The anchors of one track.

    User anchors are not kept here: the frames that belong to a person are their only truth, so a stroke, an
    undo and a crash can never leave the two apart.

    Parameters
    ----------
    user_frames
        Tells which frames belong to a person now, sorted.
    model_anchors
        Frames whose mask came from ST prompts.
    excluded
        Frames whose model anchor must not be used.
    pinned
        Frames whose model anchor is used whatever the user anchors say.
    demoted
        Frames that would be model anchors, had the user anchors not contradicted them in the latest run.
    """

    def __init__(
        self,
        user_frames: Callable[[], tuple[int, ...]],
        model_anchors: Iterable[int] = (),
        excluded: Iterable[int] = (),
        pinned: Iterable[int] = (),
        demoted: Iterable[int] = (),
    ) -> None:
        self._user_frames = user_frames
        self._seen = set(model_anchors)
        self._excluded = set(excluded)
        self._pinned = set(pinned)
        self._demoted = set(demoted)

    def user_anchors(self) -> tuple[int, ...]:
        """Frames that a person fixed, sorted."""
        return self._user_frames()

    def model_anchors(self) -> tuple[int, ...]:
        """Frames that ST prompts decided, sorted; without excluded ones and those a person has overridden."""
        return tuple(sorted(self._seen - self._excluded - set(self.user_anchors())))

    @property
    def seen_model_anchors(self) -> tuple[int, ...]:
        """Every frame that ST prompts decided in the latest results, sorted, excluded ones included."""
        return tuple(sorted(self._seen))

    @property
    def excluded(self) -> frozenset[int]:
        """Frames whose model anchor must not be used."""
        return frozenset(self._excluded)

    @property
    def pinned(self) -> frozenset[int]:
        """Frames whose model anchor is used whatever the user anchors say."""
        return frozenset(self._pinned)

    @property
    def demoted(self) -> frozenset[int]:
        """Frames whose model anchor the user anchors contradicted in the latest results."""
        return frozenset(self._demoted)

    def note_model_anchor(self, frame: int) -> None:
        """Remember that ST prompts decided ``frame``."""
        self._seen.add(frame)
        self._demoted.discard(frame)

    def forget_model_anchor(self, frame: int, *, is_demoted: bool = False) -> None:
        """Remember that a later result reached ``frame`` through memory, and whether what language said was demoted."""
        self._seen.discard(frame)
        (self._demoted.add if is_demoted else self._demoted.discard)(frame)

    def pin(self, frame: int) -> None:
        """Have the model anchor on ``frame`` used whatever the user anchors say, excluded or not before."""
        self._pinned.add(frame)
        self._excluded.discard(frame)

    def unpin(self, frame: int) -> None:
        """Let the user anchors decide about the model anchor on ``frame`` again."""
        self._pinned.discard(frame)

    def exclude(self, frame: int) -> None:
        """Have the model anchor on ``frame`` used no more."""
        self._excluded.add(frame)
        self._pinned.discard(frame)

    def include(self, frame: int) -> None:
        """Allow a model anchor on ``frame`` again."""
        self._excluded.discard(frame)

    def span_of(self, frame: int, num_frames: int) -> Span:
        """Return the frames that a correction on ``frame`` can change, itself included.

        It reaches outward on both sides to the next user anchor, which it does not contain.

        Raises
        ------
        InputError
            When the video has no such frame.
        """
        if not 0 <= frame < num_frames:
            raise InputError(f"A frame must be 0…{num_frames - 1}; got {frame}; count from 0.")
        return _between(self.user_anchors(), frame, num_frames)

    def spans_of(self, frames: Iterable[int], num_frames: int) -> tuple[Span, ...]:
        """Return :meth:`span_of` of each of many frames of the video."""
        anchors = self.user_anchors()
        return tuple(_between(anchors, frame, num_frames) for frame in frames)

    def gaps(self, num_frames: int) -> tuple[Span, ...]:
        """Return the spans between user anchors; together with the anchors they are the whole video, once."""
        edges = [-1, *self.user_anchors(), num_frames]
        return tuple(Span(a + 1, b) for a, b in itertools.pairwise(edges) if b - a > 1)

    def nearest(self, span: Span, num_each_side: int) -> tuple[int, ...]:
        """Return the user anchors within ``span`` and the nearest ``num_each_side`` before and after it, sorted."""
        anchors = self.user_anchors()
        first, last = bisect_left(anchors, span.start), bisect_left(anchors, span.stop)
        return anchors[max(0, first - num_each_side) : last + num_each_side]

    def notes(self, num_frames: int) -> tuple[AnchorNote, ...]:
        """Tell of every anchor why it is there and what it governs, sorted by frame.

        The spans that anchors in use govern are, together, the whole video, once; where there is no anchor, nothing.
        """
        users, models = self.user_anchors(), self.model_anchors()
        governed = governed_spans((*users, *models), num_frames)
        nothing, fixed = Span(0, 0), frozenset(users)
        notes = [AnchorNote(f, AnchorKind.USER, "used", False, governed[f], _WHY_USER) for f in users]
        for frame in sorted(self._seen | self._excluded | self._demoted):
            state = self._state_of(frame, fixed)
            pinned = frame in self._pinned
            why = _WHY_MODEL["pinned" if pinned and state == "used" else state]
            notes.append(
                AnchorNote(
                    frame,
                    AnchorKind.MODEL,
                    state,
                    pinned,
                    governed.get(frame, nothing) if state == "used" else nothing,
                    why,
                )
            )
        return tuple(sorted(notes, key=lambda note: (note.frame, note.kind is AnchorKind.MODEL)))

    def _state_of(self, frame: int, users: frozenset[int]) -> AnchorState:
        if frame in self._excluded:
            return "excluded"
        if frame in users:
            return "overridden"
        return "used" if frame in self._seen else "demoted"

    def describe(self) -> str:
        """Return one line for a person, e.g. ``"user anchors on 4, 31; 2 model anchors; 1 excluded"``."""
        users, models = self.user_anchors(), self.model_anchors()
        parts = [f"user anchors on {_some(users)}" if users else "no user anchors"]
        parts.append(f"{len(models) or 'no'} model anchor{'s' * (len(models) != 1)}")
        if self._excluded:
            parts.append(f"{len(self._excluded)} excluded")
        demoted = self._demoted - self._excluded - set(users)
        if demoted:
            parts.append(f"{len(demoted)} demoted")
        if self._pinned:
            parts.append(f"{len(self._pinned)} pinned")
        return "; ".join(parts)


def _between(anchors: tuple[int, ...], frame: int, num_frames: int) -> Span:
    """Return the frames around ``frame`` up to its neighbours among sorted ``anchors``, which are left out."""
    before, after = bisect_left(anchors, frame), bisect_right(anchors, frame)
    start = anchors[before - 1] + 1 if before else 0
    return Span(start, anchors[after] if after < len(anchors) else num_frames)


def _some(frames: tuple[int, ...], most: int = 6) -> str:
    shown = ", ".join(map(str, frames[:most]))
    return shown if len(frames) <= most else f"{shown} and {len(frames) - most} more"


def governed_spans(anchors: Iterable[int], num_frames: int) -> dict[int, Span]:
    """Return the frames nearest to each anchor; at equal distance the earlier anchor has them."""
    ordered = sorted(set(anchors))
    edges = [0, *((a + b) // 2 + 1 for a, b in itertools.pairwise(ordered)), num_frames]
    return {anchor: Span(edges[i], edges[i + 1]) for i, anchor in enumerate(ordered)}


_WHY_USER = "A person painted, gave or accepted this mask, or said that the object is not here."
_WHY_MODEL = {
    "used": "Language found the object here, and nothing contradicts it.",
    "pinned": "Language found the object here, and a person pinned it.",
    "demoted": "Language found something here, but following from the user anchors finds something else.",
    "excluded": "A person deleted what language found here.",
    "overridden": "Language found the object here, but a person fixed the frame.",
}
