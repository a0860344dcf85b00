"""Runs of the model over tracks, from the request to the last frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_virst.engine.protocol import LearningSegmenter
from napari_virst.errors import VirstError
from napari_virst.records import FrameResult, Job, Learned, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner, Ticket

WAKING = "waking the model"
LEARNING = "learning from corrections"
FOLLOWING = "following"


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


Event = Stage | Awake | Learned | FrameResult


class TrackRun:
    """The bookkeeping of one run; changed by :class:`Runs` only, in the session's thread.

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
    """

    def __init__(self, track_id: str, jobs: tuple[Job, ...], num_total: int, clock: Callable[[], float]) -> None:
        self.track_id = track_id
        self.jobs = jobs
        self.num_total = num_total
        self.done: set[int] = set()
        self.dropped: set[int] = set()
        self.awake: Awake | None = None
        self.error: BaseException | None = None
        self.ticket: Ticket | None = None
        self.stopped = False
        self._clock = clock
        self._stage = ""
        self._stage_start_s = clock()

    @property
    def complete(self) -> bool:
        """Whether it ended, or can still end, with every frame computed."""
        return self.error is None and not self.stopped

    @property
    def outcome(self) -> str:
        """How it ended, in a few words."""
        return "finished" if self.complete else "cancelled" if self.error is None else f"failed: {self.error}"

    @property
    def revision(self) -> int:
        """Of all its jobs."""
        return self.jobs[0].revision

    def covers(self, frame: int) -> bool:
        """Whether the run was asked for ``frame``."""
        return any(frame in job.span for job in self.jobs)

    def stop(self) -> None:
        """Have the run end after the frame it is busy with."""
        self.stopped = True
        if self.ticket is not None:
            self.ticket.cancel()

    def enter(self, stage: str) -> None:
        """Start the clock of a new stage."""
        self._stage, self._stage_start_s = stage, self._clock()

    def progress(self) -> Progress:
        """How far it has come in its present stage."""
        return Progress(len(self.done), self.num_total, self._clock() - self._stage_start_s, self._stage)

    def work(self, frames: Frames, wake: Callable[[], Segmenter]) -> Callable[[Callable[[], bool]], Iterator[Event]]:
        """Return what a runner has to run; it touches neither session nor track."""

        def events(should_stop: Callable[[], bool]) -> Iterator[Event]:
            def stop() -> bool:
                return self.stopped or should_stop()

            yield Stage(WAKING)
            if stop():
                return
            segmenter = wake()
            yield Awake(segmenter.name, segmenter.device, segmenter.unknown_words(self.jobs[0].query.text))
            yield from self._learn(frames, segmenter, stop)
            yield Stage(FOLLOWING)
            for job in self.jobs:
                if stop():
                    return
                yield from segmenter.run(frames, job, stop)

        return events

    def _learn(self, frames: Frames, segmenter: Segmenter, stop: Callable[[], bool]) -> Iterator[Event]:
        if not isinstance(segmenter, LearningSegmenter) or not any(job.learn for job in self.jobs):
            return
        yield Stage(LEARNING)
        for job in self.jobs:
            learned = None if stop() or not job.learn or not job.anchors else segmenter.learn(frames, job, stop)
            if learned is not None:
                yield learned


class Runs:
    """Every run of a session that is at work or waits.

    Parameters
    ----------
    frames
        The video.
    wake
        Returns the model; called where the runner runs things, at the start of every run.
    runner
        Where runs happen.
    accept
        Writes a result of a track; False where the result was dropped.

    Attributes
    ----------
    progress
        Signal(Progress).
    busy_changed
        Signal(bool).
    awoke
        Signal(track_id, Awake).
    learned
        Signal(track_id, Learned).
    ended
        Signal(TrackRun): its ``outcome`` and ``error`` say how.
    """

    progress = Signal(Progress)
    busy_changed = Signal(bool)
    awoke = Signal(str, Awake)
    learned = Signal(str, Learned)
    ended = Signal(TrackRun)

    def __init__(
        self,
        frames: Frames,
        wake: Callable[[], Segmenter],
        runner: Runner,
        accept: Callable[[str, FrameResult], bool],
    ) -> None:
        self._frames, self._wake, self._runner, self._accept = frames, wake, runner, accept
        self._active: list[TrackRun] = []
        self.frames_per_s: float | None = None
        """Rate of the last run that computed anything; None before."""

    @property
    def busy(self) -> bool:
        """Whether any run is at work or waits."""
        return bool(self._active)

    @property
    def active(self) -> tuple[TrackRun, ...]:
        """Every run that is at work or waits, in the order of their start."""
        return tuple(self._active)

    def start(self, run: TrackRun) -> None:
        """Put ``run`` in line; it replaces runs of the same track."""
        self._active.append(run)
        if len(self._active) == 1:
            self.busy_changed.emit(True)
        for other in tuple(self._active):
            if other.track_id == run.track_id and other is not run:
                other.stop()
        run.ticket = self._runner.submit(
            run.work(self._frames, self._wake),
            lambda event: self._on_event(run, event),
            lambda error: self._on_end(run, error),
        )

    def stop(self, track_id: str | None = None) -> None:
        """Stop the runs of one track, or all, each after the frame it is busy with."""
        for run in tuple(self._active):
            if track_id in (None, run.track_id):
                run.stop()

    def _on_event(self, run: TrackRun, event: Event) -> None:
        if isinstance(event, Stage):
            run.enter(event.name)
        elif isinstance(event, Awake):
            run.awake = event
            self.awoke.emit(run.track_id, event)
        elif isinstance(event, Learned):
            self.learned.emit(run.track_id, event)
        elif run.covers(event.frame):
            self._on_result(run, event)
        self.progress.emit(run.progress())

    def _on_result(self, run: TrackRun, result: FrameResult) -> None:
        try:
            written = self._accept(run.track_id, result)
        except VirstError as error:
            run.error = error
            run.stop()
            return
        run.done.add(result.frame)
        (run.dropped.discard if written else run.dropped.add)(result.frame)

    def _on_end(self, run: TrackRun, error: BaseException | None) -> None:
        run.error = run.error or error
        self._active.remove(run)
        if run.done:
            self.frames_per_s = run.progress().frames_per_s or self.frames_per_s
        self.ended.emit(run)
        if not self._active:
            self.busy_changed.emit(False)
