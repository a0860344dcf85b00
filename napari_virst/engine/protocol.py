"""The only page of the engine that the session reads: what frames and segmenters look like. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_virst.records import FrameResult, Job, Learned


@runtime_checkable
class Frames(Protocol):
    """The frames of one video as the user sees them, read one at a time, from any thread."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short text that differs where the pixels may differ (content and display settings); names caches."""
        ...

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Frame ``frame`` as (H, W, 3) uint8 RGB.

        Raises
        ------
        VideoError
            When the frame cannot be decoded.
        """
        ...


@runtime_checkable
class StoredFrames(Protocol):
    """Frames that know their pixels apart from how they are stored and shown."""

    def pixels_fingerprint(self) -> str:
        """Short text that is the same for a file and for an array of what is in it, whatever the contrast."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Something that follows a query along a video."""

    @property
    def name(self) -> str:
        """What to call the model in a window, a ledger and a file, e.g. ``"compact"``."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, e.g. ``"cpu"`` or ``"cuda:0"``."""
        ...

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of ``text`` that the model has never seen and therefore ignores, in their order."""
        ...

    def run(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Iterator[FrameResult]:
        """Compute the frames of ``job.span``, one result each, in the order they become known.

        Frames of user anchors are not returned. A frame may be returned twice (first as a model anchor, later
        improved); the last result counts. Where the job brings ``known_mask``, frames on which following would only
        repeat what the track holds may be left out: after a normal end they count as done. ``should_stop`` is asked at
        least once per frame of work, while grounding too; when it answers True the iterator ends, and what was returned
        stays valid.

        Raises
        ------
        QueryError
            When the query has no words and the job no user anchor.
        SegmentationError
            When the model fails; the message names the frame.
        VideoError
            When a frame cannot be read.
        """
        ...


@runtime_checkable
class BatchSegmenter(Segmenter, Protocol):
    """A segmenter that follows several queries at the price of little more than one."""

    def run_many(
        self, frames: Frames, jobs: Sequence[Job], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, FrameResult]]:
        """Compute several jobs of one video together: the position of a job, and one of its results.

        For each job the results are those of :meth:`run`, up to rounding in the last digits of logits; those of
        different jobs come mixed. Errors are those of :meth:`run`, and end all jobs; what was returned stays valid.
        """
        ...


@runtime_checkable
class LearningSegmenter(Segmenter, Protocol):
    """A segmenter that can adapt itself to the user anchors of one job, and to no other."""

    def learn(self, frames: Frames, job: Job, should_stop: Callable[[], bool]) -> Learned | None:
        """Learn from the user anchors of ``job``, or remember what came of it.

        A later ``run`` uses it where ``job.adapter`` names it, and where ``job.learn``, for which ``run`` learns by
        itself what was not learned before. ``should_stop`` is asked at least once per step of training. None where
        there is nothing to learn from (fewer than two anchors that show the object), or when told to stop. Errors are
        those of ``run``.
        """
        ...


def run_together(
    segmenter: Segmenter, frames: Frames, jobs: Sequence[Job], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, FrameResult]]:
    """Compute jobs of one video as a batch where the segmenter can, else one after another.

    See :meth:`BatchSegmenter.run_many`.
    """
    if len(jobs) > 1 and isinstance(segmenter, BatchSegmenter):
        yield from segmenter.run_many(frames, jobs, should_stop)
        return
    for index, job in enumerate(jobs):
        if should_stop():
            return
        for result in segmenter.run(frames, job, should_stop):
            yield index, result
