"""The menu of a track's instances; no napari."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QWidget

MAX_OFFERED = 30
"""Instances in one submenu; of more, the first ones."""


class InstancesMenu(QMenu):
    """Offers to take a track apart, and to join and exchange its instances.

    What a person picked on the canvas (key 5, napari's picker) is the instance that the others are joined to.
    """

    split_requested = Signal(bool)
    """Whether pieces are children of what they came from."""
    merge_requested = Signal(int, int)
    """The instance that stays, and the one that becomes part of it."""
    swap_requested = Signal(int, int)
    show_tracks_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTipsVisible(True)
        self.show_instances((), 0)

    def show_instances(self, labels: tuple[int, ...], picked: int) -> None:
        """Offer what can be done with the instances ``labels``; empty where the track is not split."""
        self.clear()
        self._offer_split(bool(labels))
        others = [label for label in labels if label != picked][:MAX_OFFERED]
        self.addSeparator()
        merge, swap = self.addMenu(f"Merge into instance {picked}"), self.addMenu(f"Swap instance {picked}")
        for other in others:
            action = merge.addAction(f"instance {other}, from this frame on")
            action.triggered.connect(lambda _=False, other=other: self.merge_requested.emit(picked, other))
            action = swap.addAction(f"with instance {other}, from this frame on")
            action.triggered.connect(lambda _=False, other=other: self.swap_requested.emit(picked, other))
        for menu in (merge, swap):
            menu.setEnabled(picked in labels and bool(others))
        if not menu.isEnabled():
            hint = "split the track first" if not labels else "pick an instance on the canvas first (key 5)"
            self.addAction(f"({hint})").setEnabled(False)
        self.addSeparator()
        tracks = self.addAction("Show as a Tracks layer")
        tracks.setToolTip("The way of every instance, divisions included, as a napari Tracks layer")
        tracks.triggered.connect(self.show_tracks_requested)

    def _offer_split(self, is_split: bool) -> None:
        again = " again" if is_split else ""
        split = self.addAction(f"Split into instances{again}")
        split.setToolTip("Every piece of the mask becomes an instance that keeps its label over time")
        split.triggered.connect(lambda: self.split_requested.emit(False))
        divide = self.addAction(f"Split into instances that divide{again}")
        divide.setToolTip("The same for cells: where one falls into pieces, these are its children")
        divide.triggered.connect(lambda: self.split_requested.emit(True))
