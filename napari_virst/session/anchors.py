"""Which frames of a track are fixed, by whom, and which frames a correction can change."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from napari_virst.errors import InputError
from napari_virst.records import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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
    """

    def __init__(
        self,
        user_frames: Callable[[], tuple[int, ...]],
        model_anchors: Iterable[int] = (),
        excluded: Iterable[int] = (),
    ) -> None:
        self._user_frames = user_frames
        self._seen = set(model_anchors)
        self._excluded = set(excluded)

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

    def note_model_anchor(self, frame: int) -> None:
        """Remember that ST prompts decided ``frame``."""
        self._seen.add(frame)

    def forget_model_anchor(self, frame: int) -> None:
        """Remember that a later result reached ``frame`` through memory."""
        self._seen.discard(frame)

    def exclude(self, frame: int) -> None:
        """Have the model anchor on ``frame`` used no more."""
        self._excluded.add(frame)

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
        anchors = self.user_anchors()
        before, after = bisect_left(anchors, frame), bisect_right(anchors, frame)
        start = anchors[before - 1] + 1 if before else 0
        stop = anchors[after] if after < len(anchors) else num_frames
        return Span(start, stop)

    def gaps(self, num_frames: int) -> tuple[Span, ...]:
        """Return the spans between user anchors; together with the anchors they are the whole video, once."""
        edges = [-1, *self.user_anchors(), num_frames]
        return tuple(Span(a + 1, b) for a, b in itertools.pairwise(edges) if b - a > 1)

    def describe(self) -> str:
        """Return one line for a person, e.g. ``"user anchors on 4, 31; 2 model anchors; 1 excluded"``."""
        users, models = self.user_anchors(), self.model_anchors()
        parts = [f"user anchors on {_some(users)}" if users else "no user anchors"]
        parts.append(f"{len(models) or 'no'} model anchor{'s' * (len(models) != 1)}")
        if self._excluded:
            parts.append(f"{len(self._excluded)} excluded")
        return "; ".join(parts)


def _some(frames: tuple[int, ...], most: int = 6) -> str:
    shown = ", ".join(map(str, frames[:most]))
    return shown if len(frames) <= most else f"{shown} and {len(frames) - most} more"
