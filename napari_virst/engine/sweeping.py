"""The order in which the legs of several objects are followed: sweeps through the video, objects together. No torch.

Objects whose next legs run the same way are swept together: at each frame those that have come to it take one step as
a batch. So every frame of a sweep is read once, in order, whatever the number of objects.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from napari_virst.engine.stopping import StoppedError
from napari_virst.model.anchors import Direction, Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from napari_virst.engine.convergence import Convergence
    from napari_virst.engine.encoding import VideoEncoder
    from napari_virst.engine.following import FollowedObject, Follower
    from napari_virst.records import FrameResult


class Pursuit:
    """What is left to follow of one object.

    Parameters
    ----------
    index
        Position of its job among those asked together.
    thing
        The object.
    legs
        What to follow, in this order.
    skip
        Frames to pass through: its anchors.
    convergence
        Ends legs early; None: every leg is followed to its end.
    """

    def __init__(
        self,
        index: int,
        thing: FollowedObject,
        legs: Sequence[Leg],
        skip: frozenset[int],
        convergence: Convergence | None = None,
    ) -> None:
        self.index, self.thing, self.skip = index, thing, skip
        self._legs, self._convergence = deque(leg for leg in legs if leg.frames), convergence
        self._position = 0

    @property
    def head(self) -> Leg | None:
        """The leg that is followed now."""
        return self._legs[0] if self._legs else None

    @property
    def next_frame(self) -> int:
        """The frame of the head that comes next."""
        return self._legs[0].frames[self._position]

    @property
    def at_start(self) -> bool:
        """Whether the head has not begun."""
        return self._position == 0

    def advance(self) -> None:
        """Leave the next frame behind."""
        self._position += 1
        if self._position == len(self._legs[0].frames):
            self._end_leg()

    def note(self, result: FrameResult) -> bool:
        """Look whether the head may end after this frame, before :meth:`advance`; tell whether it did.

        Where the far end of the leg is a user anchor too, what was left out is tried from there: it may be the one
        that has changed.
        """
        if self._convergence is None or not self._convergence.reached(result.frame, result.mask, self.thing.pointer):
            return False
        leg = self._legs[0]
        left_out = leg.frames[self._position + 1 :]
        self._end_leg()
        users = {anchor.frame for anchor in self.thing.job.anchors}
        if left_out and left_out[-1] + leg.direction in users:
            back: Direction = -1 if leg.direction == 1 else 1
            self._legs.appendleft(Leg(left_out[::-1], back))
        return True

    def joins(self, direction: Direction, frame: int) -> bool:
        """Whether its head can still be swept in a direction from ``frame`` on."""
        return self.head is not None and self.head.direction == direction and (self.next_frame - frame) * direction >= 0

    def frames_ahead(self, direction: Direction) -> list[int]:
        """Return the frames that one sweep from the head on will ask for, in order."""
        frames: list[int] = []
        for leg in self._legs:
            if leg.direction != direction or (frames and (leg.frames[0] - frames[-1]) * direction <= 0):
                break
            frames += [frame for frame in leg.frames if frame not in self.skip]
        return frames

    def restart(self) -> None:
        """Count agreement anew, at the start of a leg."""
        if self._convergence is not None:
            self._convergence.restart()

    def _end_leg(self) -> None:
        self._legs.popleft()
        self._position = 0


def sweep_all(
    follower: Follower, video: VideoEncoder, pursuits: Sequence[Pursuit], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, FrameResult]]:
    """Follow everything; return results with the position of their job, in the order they become known."""
    while lead := next((p for p in pursuits if p.head is not None), None):
        assert lead.head is not None
        direction = lead.head.direction
        members = [p for p in pursuits if p.head is not None and p.head.direction == direction]
        order = {frame for member in members for frame in member.frames_ahead(direction)}
        with video.reading_ahead(sorted(order, reverse=direction == -1)):
            stopped = yield from _sweep(follower, members, direction, should_stop)
        if stopped:
            return


def _sweep(
    follower: Follower, members: Sequence[Pursuit], direction: Direction, should_stop: Callable[[], bool]
) -> Generator[tuple[int, FrameResult], None, bool]:
    """Sweep once; tell whether it was stopped."""
    frame = min((m.next_frame for m in members), key=lambda f: f * direction)
    while joined := [m for m in members if m.joins(direction, frame)]:
        frame = min((m.next_frame for m in joined), key=lambda f: f * direction)
        if should_stop():
            return True
        present = [m for m in joined if m.next_frame == frame]
        try:
            yield from _take_frame(follower, present, frame, direction, should_stop)
        except StoppedError:
            return True
    return False


def _take_frame(
    follower: Follower,
    present: Sequence[Pursuit],
    frame: int,
    direction: Direction,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, FrameResult]]:
    for member in present:
        if member.at_start and member.head is not None:
            follower.enter(member.thing, member.head)
            member.restart()
    following = [m for m in present if frame not in m.skip]
    for member in present:
        if frame in member.skip:
            follower.pass_anchor(member.thing, frame)
            member.advance()
    if not following:
        return
    results = follower.step(frame, direction, [m.thing for m in following], should_stop)
    for member, result in zip(following, results, strict=True):
        if not member.note(result):
            member.advance()
        follower.keep_pointer(member.thing, result)
        if frame in member.thing.job.span:
            yield member.index, result
