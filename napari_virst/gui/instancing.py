"""Instances and undo of a track: between the dock's menu and the session."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Tracks

from napari_virst.errors import InputError
from napari_virst.gui import layers, planes, sentences

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Desks
    from napari_virst.session.instances import Lineage
    from napari_virst.session.session import Track


class Instancing:
    """Carries out what is wished of the instances of a track; all of it in the background, for it reads every mask.

    Parameters
    ----------
    viewer : ViewerModel
        Where Tracks layers are added.
    desks : Desks
        The annotated images.
    say, tell : callable
        Show a sentence; show anew what is known of the track.
    """

    def __init__(self, viewer: ViewerModel, desks: Desks, say: Callable[[str], None], tell: Callable[[], None]) -> None:
        self._viewer, self._desks, self._say, self._tell = viewer, desks, say, tell
        self._to_undo: Labels | None = None

    def labels_of(self, layer: Labels) -> tuple[tuple[int, ...], int]:
        """Give the instances of a track, none where it is not split, and the one picked on the canvas."""
        _, track = self._desks.owner_of(layer)
        lineage = track.lineage
        return (() if lineage is None else tuple(sorted(lineage.parents))), int(layer.selected_label)

    def split(self, layer: Labels, divides: bool) -> None:
        """Take a track apart into instances."""
        desk, track = self._desks.owner_of(layer)
        action = partial(desk.session.split_track, track, divides=divides)
        desk.do_in_background("splitting into instances", action, partial(self._on_split, desk))

    def _on_split(self, desk: Desk, lineage: Lineage) -> None:
        count, children = len(lineage.parents), sum(1 for parent in lineage.parents.values() if parent)
        born = f", {children} of them by division" if children else ""
        self._done(f"{count} instance{'s' * (count != 1)} found{born}; Ctrl+Alt+Z undoes it.", desk)

    def merge(self, layer: Labels, into: int, other: int) -> None:
        """Make an instance a part of another from the frame in view on."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.view.frame_to_change()
        action = partial(desk.session.merge_instances, track, into, other, frame)
        said = f"Instance {other} is part of instance {into} from frame {frame} on."
        desk.do_in_background("merging instances", action, lambda _: self._done(said, desk))

    def swap(self, layer: Labels, one: int, other: int) -> None:
        """Exchange two instances from the frame in view on."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.view.frame_to_change()
        action = partial(desk.session.swap_instances, track, one, other, frame)
        said = f"Instances {one} and {other} are swapped from frame {frame} on."
        desk.do_in_background("swapping instances", action, lambda _: self._done(said, desk))

    def split_one(self, layer: Labels, label: int, divides: bool) -> None:
        """Take the pieces of an instance apart from the frame in view on; ``divides``: they are its children."""
        desk, track = self._desks.owner_of(layer)
        frame = desk.view.frame_to_change()
        num_before = 0 if track.lineage is None else len(track.lineage.parents)
        action = partial(desk.session.split_instance, track, label, frame, divides=divides)
        done = partial(self._on_split_one, desk, label, frame, num_before)
        desk.do_in_background("splitting an instance", action, done)

    def _on_split_one(self, desk: Desk, label: int, frame: int, num_before: int, lineage: Lineage) -> None:
        count = len(lineage.parents) - num_before
        if count:
            self._done(f"{count} new instance{'s' * (count != 1)} from instance {label}, from frame {frame} on.", desk)
        else:
            self._done(f"Instance {label} is in one piece from frame {frame} on.", desk)

    def set_parent(self, layer: Labels, child: int, parent: int) -> None:
        """Say what an instance came from by division; 0 for nothing."""
        desk, track = self._desks.owner_of(layer)
        desk.session.set_parent(track, child, parent)
        self._done(f"Instance {child} came from {f'instance {parent}' if parent else 'nothing'}.")

    def show_tracks(self, layer: Labels) -> None:
        """Show the ways of the instances, with their divisions, as a Tracks layer."""
        desk, track = self._desks.owner_of(layer)
        action = partial(desk.session.tracks_data, track)
        desk.do_in_background("following instances", action, partial(self._on_tracks, desk, track))

    def _on_tracks(self, desk: Desk, track: Track, found: tuple[NDArray[np.float64], dict[int, list[int]]]) -> None:
        data, graph = found
        if not len(data) and desk.session.was_halted:
            self._say("Cancelled before any instance was followed.")
            return
        if not len(data):
            raise InputError("There must be a mask on some frame to show tracks; got none; run the query first.")
        known = set(np.unique(data[:, 0]).astype(int).tolist())
        graph = {child: parents for child, parents in graph.items() if {child, *parents} <= known}
        name = f"{layers.layer_name(desk.image.name, track.query)} · tracks"
        place: dict[str, Any] = layers.spatial_arguments(desk.image)
        if name in self._viewer.layers and isinstance(self._viewer.layers[name], Tracks):
            self._viewer.layers.remove(name)
        data = planes.with_planes(data, desk.image)
        self._viewer.add_layer(Tracks(data, graph=graph, name=name, **place))
        self._viewer.layers.selection.active = desk.show_track(track)  # where the keys are

    def undo(self, layer: Labels) -> None:
        """Take back the last run, correction, acceptance or renaming of a track."""
        self._to_undo = None
        desk, track = self._desks.owner_of(layer)
        if desk.session.busy:
            desk.session.cancel()
        if desk.session.busy:
            self._to_undo = layer
            self._say("The run is being stopped, then taken back.")
            return
        undo = partial(desk.session.undo, track)
        desk.do_in_background("undoing", undo, partial(self._on_undone, desk, track), can_cancel=False)

    def _on_undone(self, desk: Desk, track: Track, action: str | None) -> None:
        self._done(sentences.undone(action, track.query.name))

    def undo_when_stopped(self) -> None:
        """Take back what was still being stopped when that was wished."""
        owner = None if self._to_undo is None else self._desks.find(self._to_undo)
        if self._to_undo is not None and (owner is None or not owner[0].session.busy):
            layer, self._to_undo = self._to_undo, None
            if owner is not None:
                self.undo(layer)

    def _done(self, text: str, desk: Desk | None = None) -> None:
        is_halted = desk is not None and desk.session.was_halted
        self._say("Cancelled; what was done by then stays, and Ctrl+Alt+Z takes it back." if is_halted else text)
        self._tell()
