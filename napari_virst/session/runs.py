"""Runs of the model over tracks, from the request to the last frame; and learning, while there is nothing to run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_virst.errors import VirstError
from napari_virst.records import FrameResult, Learned, Progress
from napari_virst.session.track_run import Awake, Event, Stage, TrackRun
from napari_virst.session.working import Waiting, lesson_work, run_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner, Ticket
    from napari_virst.records import Job

__all__ = ["Awake", "Runs", "TrackRun"]


class Runs:
    """Every run of a session that is at work or waits, and what is to be learned when none does.

    Runs that wait together, and may go together, are handed to the model as one batch by whichever of them comes first.

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
        Signal(Progress) of a run, or of all that run together.
    busy_changed
        Signal(bool): whether a run is at work or waits; learning is not counted.
    awoke
        Signal(track_id, Awake).
    ended
        Signal(TrackRun): its ``outcome`` and ``error`` say how.
    learned
        Signal(track_id, Learned, identity): what came of learning, and the identity of the model.
    learning_failed
        Signal(message).
    """

    progress = Signal(Progress)
    busy_changed = Signal(bool)
    awoke = Signal(str, Awake)
    ended = Signal(TrackRun)
    learned = Signal(str, Learned, str)
    learning_failed = Signal(str)

    def __init__(
        self,
        frames: Frames,
        wake: Callable[[], Segmenter],
        runner: Runner,
        accept: Callable[[str, FrameResult], bool],
    ) -> None:
        self._frames, self._wake, self._runner, self._accept = frames, wake, runner, accept
        self._active: list[TrackRun] = []
        self._waiting = Waiting()
        self._lessons: dict[str, Job] = {}
        self._learning: Ticket | None = None
        self._was_busy = False
        self.frames_per_s: float | None = None
        """Rate of the last run that computed anything; None before."""

    @property
    def busy(self) -> bool:
        """Whether any run is at work or waits."""
        return bool(self._active)

    @property
    def learning(self) -> bool:
        """Whether there is anything to learn, now or when no run is left."""
        return bool(self._lessons)

    @property
    def active(self) -> tuple[TrackRun, ...]:
        """Every run that is at work or waits, in the order of their start."""
        return tuple(self._active)

    def waits(self, track_id: str) -> bool:
        """Whether a run of a track has not begun because another is at work."""
        begun = [run for run in self._active if run not in self._waiting]
        return bool(begun) and any(run.track_id == track_id and run not in begun for run in self._active)

    def start(self, *runs: TrackRun) -> None:
        """Put ``runs``, each of another track, in line; they replace runs of the same tracks, and end learning."""
        if not runs:
            return
        self._active += runs
        self._tell_busy()
        self._rest()
        for other in tuple(self._active):
            if other not in runs and other.track_id in [run.track_id for run in runs]:
                self._stop(other)
        self._waiting.add(runs)
        for run in runs:
            run.ticket = self._runner.submit(
                run_work(run, self._waiting, self._frames, lambda: self._wake()),
                lambda item: self._on_event(*item),
                partial(self._on_end, run),
            )

    def stop(self, track_id: str | None = None) -> None:
        """Stop runs and learning of one track, or all, each after the frame or step it is busy with."""
        for run in tuple(self._active):
            if track_id in (None, run.track_id):
                self._stop(run)
        for one in tuple(self._lessons):
            if track_id in (None, one):
                self.forget_lesson(one)

    def _stop(self, run: TrackRun) -> None:
        run.stopped = True
        # The ticket of a run that was taken along by another comes right after it, and its last results before.
        if self._waiting.leave(run) and run.ticket is not None:
            run.ticket.cancel()

    def _on_event(self, run: TrackRun, event: Event) -> None:
        if run not in self._active:
            return
        if isinstance(event, Stage):
            run.enter(event.name)
        elif isinstance(event, Awake):
            run.awake = event
            self.awoke.emit(run.track_id, event)
        elif run.covers(event.frame):
            self._on_result(run, event)
        self.progress.emit(run.progress())

    def _on_result(self, run: TrackRun, result: FrameResult) -> None:
        try:
            written = self._accept(run.track_id, result)
        except VirstError as error:
            run.error = error
            self._stop(run)
            return
        run.done.add(result.frame)
        (run.dropped.discard if written else run.dropped.add)(result.frame)

    def _on_end(self, run: TrackRun, error: BaseException | None) -> None:
        self._waiting.leave(run)  # where waking the model failed
        run.error = run.error or error
        self._active.remove(run)
        if run.done and (self.frames_per_s is None or len(run.batch) == 1):
            self.frames_per_s = run.rate or self.frames_per_s
        self.ended.emit(run)
        self._tell_busy()
        self._learn_if_idle()

    def _tell_busy(self) -> None:
        if self.busy != self._was_busy:
            self._was_busy = self.busy
            self.busy_changed.emit(self.busy)

    # -- learning ------------------------------------------------------------------------------------------------

    def learn(self, track_id: str, lesson: Job) -> None:
        """Learn from the user anchors of ``lesson`` as soon as nothing runs; it replaces an older lesson of the track.

        Any run that is started ends it within a step, and it begins anew afterwards.
        """
        self.forget_lesson(track_id)
        self._lessons[track_id] = lesson
        self._learn_if_idle()

    def forget_lesson(self, track_id: str) -> None:
        """Learn nothing for a track."""
        if self._lessons.pop(track_id, None) is not None:
            self._rest()

    def _rest(self) -> None:
        if self._learning is not None:
            self._learning.cancel()

    def _learn_if_idle(self) -> None:
        is_learning = self._learning is not None and not self._learning.done
        if self._active or is_learning or not self._lessons:
            return
        track_id, lesson = next(iter(self._lessons.items()))
        work = lesson_work(lesson, self._frames, lambda: self._wake())
        self._learning = self._runner.submit(
            work,
            lambda outcome: self._on_learned(track_id, lesson, *outcome),
            lambda error: self._on_lesson_end(track_id, lesson, error),
        )

    def _on_learned(self, track_id: str, lesson: Job, learned: Learned | None, identity: str) -> None:
        if self._lessons.get(track_id) is lesson:
            del self._lessons[track_id]
            if learned is not None:
                self.learned.emit(track_id, learned, identity)

    def _on_lesson_end(self, track_id: str, lesson: Job, error: BaseException | None) -> None:
        if error is not None and self._lessons.get(track_id) is lesson:
            del self._lessons[track_id]
            self.learning_failed.emit(str(error))
        self._learn_if_idle()
