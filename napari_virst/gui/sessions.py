"""Where the window's sessions live, and with which model they run."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from napari_virst.engine.protocol import LearningSegmenter, run_together
from napari_virst.gui.main_thread import WindowRunner
from napari_virst.gui.project_copy import copy_project
from napari_virst.session.session import AnnotationSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_virst.engine.protocol import Frames, Segmenter
    from napari_virst.engine.runner import Runner
    from napari_virst.gui.frames import LayerFrames
    from napari_virst.records import FrameResult, Job, Learned

    LoadSegmenter = Callable[[str, str], Segmenter]
    """Given a model ("compact" or a folder) and a device; called in a worker, may take seconds."""
    Dispatch = Callable[[Callable[[], None]], None]
    MakeRunner = Callable[[Dispatch, Callable[[], None]], Runner]


_LOOK_INTERVAL_S = 0.02


class SharedSegmenter:
    """A segmenter that several sessions use in turn: a model holds state, and a device memory for one run.

    Parameters
    ----------
    segmenter : Segmenter
        What to share.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._num_waiting = 0

    @property
    def name(self) -> str:
        """What to call the model."""
        return self._segmenter.name

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._segmenter.device

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of ``text`` that the model ignores."""
        return self._segmenter.unknown_words(text)

    def run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        """Wait for the run of another session to end, then compute the frames of ``job``."""
        for _, result in self.run_many(frames, (job,), should_stop):
            yield result

    def run_many(
        self, frames: Frames, jobs: Sequence[Job], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, FrameResult]]:
        """Wait for the run of another session to end, then compute ``jobs``, together where the segmenter can."""
        self._count(+1)
        try:
            is_mine = self._wait(should_stop)
        finally:
            self._count(-1)
        if is_mine:
            try:
                yield from run_together(self._segmenter, frames, jobs, should_stop)
            finally:
                self._turn.release()

    def learn(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Learned | None:
        """Learn where the segmenter can and no session runs; a run that waits ends it, and it begins anew after it."""
        if not isinstance(self._segmenter, LearningSegmenter):
            return None
        while self._wait(should_stop):
            try:
                learned = self._segmenter.learn(frames, job, lambda: should_stop() or self._num_waiting > 0)
                if learned is not None or not self._num_waiting:
                    return learned
            finally:
                self._turn.release()
            while self._num_waiting and not should_stop():
                time.sleep(_LOOK_INTERVAL_S)
        return None

    def _wait(self, should_stop: Callable[[], bool]) -> bool:
        """Take the turn; False when told to stop before it came."""
        while not self._turn.acquire(timeout=_LOOK_INTERVAL_S):
            if should_stop():
                return False
        return True

    def _count(self, change: int) -> None:
        with self._counting:
            self._num_waiting += change


class ChosenModel:
    """The model chosen in the dock; loaded by the first run that needs it, and shared by all sessions.

    Parameters
    ----------
    load : callable
        Loads a model on a device.
    """

    def __init__(self, load: LoadSegmenter) -> None:
        self._load = load
        self._choice = ("compact", "auto")
        self._loaded: tuple[tuple[str, str], Segmenter] | None = None
        self._loading = threading.Lock()

    def choose(self, model: str, device: str) -> None:
        """Use this model from the next run on; nothing is loaded yet."""
        self._choice = (model, device)

    def __call__(self) -> Segmenter:
        """Give the chosen model, loading it where it is not there; to be called in a worker."""
        with self._loading:
            choice = self._choice
            if self._loaded is None or self._loaded[0] != choice:
                self._loaded = None  # first let go of the old one: two may not fit into memory
                self._loaded = (choice, SharedSegmenter(self._load(*choice)))
            return self._loaded[1]


class WindowSessions:
    """Makes sessions with a worker thread each; satisfies ``desks.Sessions``.

    Parameters
    ----------
    dispatch : callable
        Carries results to Qt's thread.
    load : callable
        Loads a model on a device, in a worker.
    folder : Path, optional
        Where sessions live until they are saved elsewhere; the user's data folder by default.
    make_runner : callable
        Given ``dispatch`` and what to call at the worker's end.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        load: LoadSegmenter,
        *,
        folder: Path | None = None,
        make_runner: MakeRunner = WindowRunner,
    ) -> None:
        self._dispatch = dispatch
        self._model = ChosenModel(load)
        self._folder = folder or Path(platformdirs.user_data_dir("napari-virst", appauthor=False)) / "sessions"
        self._make_runner = make_runner
        self._background: Runner | None = None

    @property
    def folder(self) -> Path:
        """Where sessions live until they are saved elsewhere."""
        return self._folder

    def choose_model(self, model: str, device: str) -> None:
        """Use this model from the next run on."""
        self._model.choose(model, device)

    def wake_model(self) -> None:
        """Load the chosen model where it is not there; to be called in a worker."""
        self._model()

    def start(self, frames: LayerFrames, name: str) -> AnnotationSession:
        """Make a session, in a folder of its own, on frames that it takes over."""
        folder = self._new_folder(name)
        return self._with_runner(
            frames,
            lambda runner: AnnotationSession(
                frames, self._model, runner, folder, video_source=frames.path, video_name=name
            ),
        )

    def reopen(self, folder: Path, frames: LayerFrames) -> AnnotationSession:
        """Open a saved project on frames that it takes over."""
        return self._with_runner(frames, lambda runner: AnnotationSession.open(folder, frames, self._model, runner))

    def copy(self, session: AnnotationSession, target: Path, on_end: Callable[[BaseException | None], None]) -> None:
        """Copy the project of a session to ``target`` in the background; ``on_end`` gets None or an error."""
        self.in_background(partial(copy_project, session.folder, target), on_end)

    def in_background(self, action: Callable[[], None], on_end: Callable[[BaseException | None], None]) -> None:
        """Do something lengthy in a worker, one thing after another; ``on_end`` gets None or an error."""

        def work(_should_stop: Callable[[], bool]) -> Iterator[None]:
            """Do it as a single step, which is not stopped halfway."""
            action()
            yield None

        if self._background is None:
            self._background = self._make_runner(self._dispatch, _nothing)
        self._background.submit(work, lambda _item: None, on_end)

    def close(self) -> None:
        """End the work in the background; what has begun is finished."""
        if self._background is not None:
            self._background.close()

    def _with_runner(self, frames: LayerFrames, make: Callable[[Runner], AnnotationSession]) -> AnnotationSession:
        runner = self._make_runner(self._dispatch, frames.close)
        try:
            return make(runner)
        except BaseException:
            runner.close()
            raise

    def _new_folder(self, name: str) -> Path:
        words = "-".join("".join(c if c.isalnum() else " " for c in name).split())[:40] or "video"
        stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{words}"
        folder, number = self._folder / stem, 1
        while folder.exists():
            number += 1
            folder = self._folder / f"{stem}-{number}"
        return folder


def _nothing() -> None:
    pass
