"""Instances of a track, as a person names them: taken apart, joined, exchanged, divided."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.errors import InputError
from napari_virst.records import Span
from napari_virst.session import instances
from napari_virst.session.instances import Lineage
from napari_virst.session.running import RunningSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_virst.session.track import Track


class InstancingSession(RunningSession):
    """A session that tells instances apart; see :class:`napari_virst.session.session.AnnotationSession`.

    Names are labels in the mask stack. Giving other names changes no mask and nobody's ownership of a frame; later runs
    carry the names on. :meth:`cancel` ends what goes through the frames after the frame it is busy with; what is done
    by then stays, and can be undone.
    """

    def split_track(self, track: Track, *, divides: bool = False, min_area_px: int = 1) -> Lineage:
        """Take the union mask of a track apart into instances; see :func:`instances.split_instances`."""
        masks = (track.masks.mask(frame) for frame in range(self.shape[0]))
        split = instances.split_instances(masks, divides=divides, min_area_px=min_area_px)
        lineage = Lineage()
        with self._renaming("split", track, Span(0, self.shape[0])) as rename:
            for frame, (labels, known) in enumerate(self._until_halted(split)):
                rename(frame, labels)
                lineage = known
            if lineage.parents or not self.was_halted:
                track.lineage = lineage
        return lineage

    def merge_instances(self, track: Track, into: int, other: int, from_frame: int = 0) -> None:
        """Make ``other`` a part of ``into`` from a frame on."""
        self._check_instances(track, into, other)
        self._rename_from("merge", track, from_frame, lambda labels: instances.merge(labels, into, other))

    def swap_instances(self, track: Track, one: int, other: int, from_frame: int) -> None:
        """Exchange the names of two instances from a frame on."""
        self._check_instances(track, one, other)
        self._rename_from("swap", track, from_frame, lambda labels: instances.swap(labels, one, other))

    def split_instance(self, track: Track, label: int, from_frame: int, *, divides: bool = False) -> Lineage:
        """Take the pieces of one instance apart from a frame on: the largest keeps its name.

        With ``divides`` all pieces are its children, and its own name ends there.

        Returns
        -------
        Lineage
            With the new instances.

        Raises
        ------
        InputError
            When an instance that divides is in one piece on that frame.
        """
        self._check_instances(track, label)
        self._check_frame(from_frame)
        if divides and instances.num_pieces(track.masks.frame(from_frame) == label) < 2:
            raise InputError(
                f"An instance that divides must be in two or more pieces; got instance {label} in fewer on frame "
                f"{from_frame}; erase a line between its parts there, or go to the first frame that shows them apart."
            )
        assert track.lineage is not None
        masks = (track.masks.frame(t) == label for t in self._until_halted(range(from_frame, self.shape[0])))
        names: dict[int, int] = {}
        lineage = track.lineage
        with self._renaming("split", track, Span(from_frame, self.shape[0])) as rename:
            for frame, (pieces, _) in enumerate(instances.split_instances(masks), from_frame):
                for piece in instances.by_area(pieces):
                    if piece not in names and not names and not divides:
                        names[piece] = label
                    elif piece not in names:
                        names[piece] = lineage.next_label
                        lineage = lineage.with_instance(names[piece], label if divides else 0)
                held = track.masks.frame(frame)
                rename(frame, np.where(pieces > 0, instances.renamed(pieces, names), held).astype(np.uint16))
            track.lineage = lineage
        return lineage

    def set_parent(self, track: Track, child: int, parent: int) -> Lineage:
        """Say that ``child`` came from ``parent`` by division, or with 0 from nothing.

        Raises
        ------
        InputError
            When either is unknown, or the parent is a descendant of the child.
        """
        self._check_instances(track, child, *([parent] if parent else []))
        assert track.lineage is not None
        with self._renaming("parent", track, Span(0, 0)):
            track.lineage = track.lineage.with_instance(child, parent)
        return track.lineage

    def tracks_data(self, track: Track) -> tuple[NDArray[np.float64], dict[int, list[int]]]:
        """Return the data (N, 4) and the graph of a napari Tracks layer."""
        frames = ((frame, track.masks.frame(frame)) for frame in self._until_halted(range(self.shape[0])))
        return instances.tracks_of(frames), {} if track.lineage is None else track.lineage.graph()

    def _rename_from(
        self, action: str, track: Track, from_frame: int, change: Callable[[NDArray[np.uint16]], NDArray[np.uint16]]
    ) -> None:
        self._check_frame(from_frame)
        with self._renaming(action, track, Span(from_frame, self.shape[0])) as rename:
            for frame in self._until_halted(range(from_frame, self.shape[0])):
                rename(frame, change(track.masks.frame(frame)))

    @contextmanager
    def _renaming(self, action: str, track: Track, span: Span) -> Iterator[Callable[[int, NDArray[np.uint16]], None]]:
        """Give what writes new labels of a frame; what was there can be brought back."""
        step, before = self._history.begin(action, track.track_id), track.lineage
        changed: list[int] = []

        def relabel(frame: int, labels: NDArray[np.uint16]) -> None:
            """Write the labels of a frame where they differ, and keep what was there for undo."""
            if np.array_equal(track.masks.frame(frame), labels):
                return
            self._history.keep(step, track.masks, frame)
            track.masks.relabel(frame, labels)
            self._history.note_after(step, track.masks, frame)
            changed.append(frame)

        yield relabel
        step.lineage = (before,)
        for frame in changed:
            self.frame_changed.emit(track.track_id, frame)
        self._journal.write(action, track.track_id, start=span.start, stop=span.stop)
        self.save()

    def _check_instances(self, track: Track, *labels: int) -> None:
        known = () if track.lineage is None else tuple(track.lineage.parents)
        for label in labels:
            if label not in known:
                raise InputError(
                    f"An instance must be one of {sorted(known)}; got {label}; choose one."
                    if known
                    else f"A track must be split into instances first; got instance {label}."
                )
