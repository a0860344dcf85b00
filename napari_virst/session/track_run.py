"""One run of the model over a track: what was asked of it, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_virst.records import FrameResult, Job, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.engine.runner import Ticket


@dataclass(frozen=True)
class Stage:
    """The run has come to a new stage; ``num_done`` counts from here."""

    name: str


@dataclass(frozen=True)
class Awake:
    """The model is there, and says which words of the query it does not know."""

    model: str
    device: str
    unknown_words: tuple[str, ...]
    identity: str
    """Differs where anything about the model does, be it only that it was loaded anew."""


Event = Stage | Awake | FrameResult


class TrackRun:
    """The bookkeeping of one run; changed by :class:`~napari_virst.session.runs.Runs` only, in the session's thread.

    ``batch`` and ``put_off`` are set in the worker's, before the events that follow from them.

    Parameters
    ----------
    track_id
        Whose run it is.
    jobs
        What to compute, one after another; never empty.
    num_total
        Frames to compute.
    clock
        Seconds, from any zero.
    may_join
        Whether it may run as a batch with others that wait. What follows from a correction runs alone: somebody looks
        at the frame and waits.

    Attributes
    ----------
    batch : tuple of TrackRun
        Those that run together, this one included.
    put_off : bool
        Whether it ended only because another of its batch was stopped.
    """

    def __init__(
        self,
        track_id: str,
        jobs: tuple[Job, ...],
        num_total: int,
        clock: Callable[[], float],
        *,
        may_join: bool = False,
    ) -> None:
        self.track_id = track_id
        self.jobs = jobs
        self.num_total = num_total
        self.may_join = may_join
        self.done: set[int] = set()
        self.dropped: set[int] = set()
        self.awake: Awake | None = None
        self.error: BaseException | None = None
        self.ticket: Ticket | None = None
        self.stopped = False
        self.put_off = False
        self.batch: tuple[TrackRun, ...] = (self,)
        self._clock = clock
        self._stage = ""
        self._stage_start_s = clock()

    @property
    def complete(self) -> bool:
        """Whether it ended, or can still end, with every frame computed."""
        return self.error is None and not self.stopped and not self.put_off

    @property
    def must_resume(self) -> bool:
        """Whether it was put off, and nothing else keeps it from going on."""
        return self.put_off and not self.stopped and self.error is None

    @property
    def outcome(self) -> str:
        """How it ended, in a few words."""
        if self.error is not None:
            return f"failed: {self.error}"
        return "finished" if self.complete else "cancelled" if self.stopped else "put off"

    @property
    def revision(self) -> int:
        """Of all its jobs."""
        return self.jobs[0].revision

    def covers(self, frame: int) -> bool:
        """Whether the run was asked for ``frame``."""
        return any(frame in job.span for job in self.jobs)

    def enter(self, stage: str) -> None:
        """Start the clock of a new stage."""
        self._stage, self._stage_start_s = stage, self._clock()

    @property
    def rate(self) -> float:
        """Frames of this run per second in its present stage; 0 before the first."""
        return Progress(len(self.done), self.num_total, self._elapsed_s).frames_per_s

    def progress(self) -> Progress:
        """How far it and those that run with it have come in their present stage."""
        num_done = sum(len(run.done) for run in self.batch)
        num_total, track_ids = sum(run.num_total for run in self.batch), tuple(run.track_id for run in self.batch)
        return Progress(num_done, num_total, self._elapsed_s, self._stage, track_ids)

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._stage_start_s
