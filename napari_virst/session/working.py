"""What the worker's thread does for a session: waking the model, running batches, learning. It touches no track."""

from __future__ import annotations

import logging
import threading
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_virst.engine.protocol import BatchSegmenter, LearningSegmenter, run_together
from napari_virst.session.track_run import Awake, Event, Stage, TrackRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.records import Job, Learned

    ShouldStop = Callable[[], bool]
    RunEvents = Callable[[ShouldStop], Iterator[tuple[TrackRun, Event]]]

logger = logging.getLogger(__name__)

WAKING = "waking the model"
FOLLOWING = "following"

MAX_TOGETHER = 8
"""Jobs in a batch. Every query is grounded before the first frame is followed, and a device has to hold all of them."""

_LOOK_INTERVAL_S = 0.02

_counter = count(1)
_numbers: WeakKeyDictionary[Segmenter, int] = WeakKeyDictionary()


class Waiting:
    """The runs that no worker has begun with, in their order; shared by the session's thread and the worker's."""

    def __init__(self) -> None:
        self._runs: list[TrackRun] = []
        self._lock = threading.Lock()

    def __contains__(self, run: TrackRun) -> bool:
        with self._lock:
            return run in self._runs

    def add(self, runs: Iterable[TrackRun]) -> None:
        """Put runs at the end of the line."""
        with self._lock:
            self._runs += runs

    def leave(self, run: TrackRun) -> bool:
        """Take one out; tell whether it was there."""
        with self._lock:
            was_there = run in self._runs
            if was_there:
                self._runs.remove(run)
            return was_there

    def take(self, lead: TrackRun, most: int) -> tuple[TrackRun, ...]:
        """Take a run out and those that go with it; nothing where it is not there any more.

        Several have ``most`` jobs together at most.
        """
        with self._lock:
            if lead not in self._runs:
                return ()
            others = [run for run in self._runs if run is not lead and run.may_join and lead.may_join]
            num_jobs = list(accumulate((len(run.jobs) for run in others), initial=len(lead.jobs)))[1:]
            batch = (lead, *(run for run, number in zip(others, num_jobs, strict=True) if number <= most))
            self._runs = [run for run in self._runs if run not in batch]
            return batch


def run_work(lead: TrackRun, waiting: Waiting, frames: Frames, wake: Callable[[], Segmenter]) -> RunEvents:
    """Return what a runner has to do for a run that waits: run it, and those that may go with it, as one batch.

    For a run that was taken along by one before it there is nothing left to do.
    """

    def events(should_stop: ShouldStop) -> Iterator[tuple[TrackRun, Event]]:
        """Wake the model, take along who may come, and yield what happens to each of them."""
        if lead not in waiting:
            return
        yield lead, Stage(WAKING)
        segmenter = _awake(wake, lambda: should_stop() or lead not in waiting)
        if segmenter is None:
            return
        batch = waiting.take(lead, MAX_TOGETHER if isinstance(segmenter, BatchSegmenter) else 1)
        for run in batch:
            run.batch = batch
            words = segmenter.unknown_words(run.jobs[0].query.text)
            yield run, Awake(segmenter.name, segmenter.device, words, identity_of(segmenter))
            yield run, Stage(FOLLOWING)
        try:
            yield from _follow(batch, segmenter, frames, should_stop)
        except Exception:
            if len(batch) == 1:
                raise
            # One query that fails, or a device too small for all, must not take the others with it.
            logger.warning("Runs failed together and are tried alone", exc_info=True)
            yield from _apart(batch, waiting, segmenter, frames, should_stop)

    return events


def _follow(
    batch: tuple[TrackRun, ...], segmenter: Segmenter, frames: Frames, should_stop: ShouldStop
) -> Iterator[tuple[TrackRun, Event]]:
    """Run a batch; it ends as a whole when one of it is stopped, and the others are put off.

    The jobs of a single run go one after another, in their order: what is nearest to the frame in view comes first.
    """
    asked = [(run, job) for run in batch for job in run.jobs]
    groups = [asked] if len(batch) > 1 else [[one] for one in asked]

    def stop() -> bool:
        return should_stop() or any(run.stopped for run in batch)

    for group in groups:
        for index, result in run_together(segmenter, frames, [job for _, job in group], stop):
            yield group[index][0], result
    if any(run.stopped for run in batch):
        for run in batch:
            run.put_off = True


def _apart(
    batch: tuple[TrackRun, ...], waiting: Waiting, segmenter: Segmenter, frames: Frames, should_stop: ShouldStop
) -> Iterator[tuple[TrackRun, Event]]:
    """Run the first of a batch alone, and leave the others to their own turn."""
    for run in batch:
        run.batch, run.may_join = (run,), False
    waiting.add(run for run in batch[1:] if not run.stopped)
    yield batch[0], Stage(FOLLOWING)
    yield from _follow(batch[:1], segmenter, frames, should_stop)


def identity_of(segmenter: Segmenter) -> str:
    """Return a text that no other segmenter has; what one has learned is lost with it."""
    return f"{segmenter.name} on {segmenter.device}, number {_numbers.setdefault(segmenter, next(_counter))}"


@dataclass
class _Waking:
    """Carries a model, or an error, out of the thread that wakes it."""

    wake: Callable[[], Segmenter]
    over: threading.Event = field(default_factory=threading.Event)
    segmenter: Segmenter | None = None
    error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.segmenter = self.wake()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.error = error
        self.over.set()


def _awake(wake: Callable[[], Segmenter], stop: ShouldStop) -> Segmenter | None:
    """Wake the model in a thread of its own, since seconds of loading cannot be interrupted; None when told to stop.

    What is being loaded then is kept by ``wake`` for the next run.
    """
    waking = _Waking(wake)
    thread = threading.Thread(target=waking, name="napari-virst waking", daemon=False)
    thread.start()
    while not waking.over.wait(_LOOK_INTERVAL_S):
        if stop():
            return None
    thread.join()
    if waking.error is not None:
        raise waking.error
    return None if stop() else waking.segmenter


def lesson_work(
    lesson: Job, frames: Frames, wake: Callable[[], Segmenter]
) -> Callable[[ShouldStop], Iterator[tuple[Learned | None, str]]]:
    """Return what a runner has to do to learn.

    It yields what came of it, and the identity of the model, once; nothing when told to stop.
    """
    frames = copy(frames)  # what is seen may be changed meanwhile, as nothing runs; see gui.frames.LayerFrames

    def outcome(should_stop: ShouldStop) -> Iterator[tuple[Learned | None, str]]:
        """Wake the model and let it learn; None where it cannot, or had too little to learn from."""
        segmenter = _awake(wake, should_stop)
        if segmenter is None:
            return
        learned = None
        if isinstance(segmenter, LearningSegmenter):
            learned = segmenter.learn(frames, lesson, should_stop)
        if learned is not None or not should_stop():
            yield learned, identity_of(segmenter)

    return outcome
