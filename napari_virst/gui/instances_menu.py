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
    split_one_requested = Signal(int, bool)
    """The instance to take apart, and whether its pieces are its children."""
    parent_requested = Signal(int, int)
    """An instance and the one that it came from, 0 for none."""
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
        self._offer_for_one(picked, others, picked in labels)
        if not merge.isEnabled():
            hint = "split the track first" if not labels else "pick an instance on the canvas first (key 5)"
            self.addAction(f"({hint})").setEnabled(False)
        self.addSeparator()
        tracks = self.addAction("Show as a Tracks layer")
        tracks.setToolTip("The way of every instance, divisions included, as a napari Tracks layer")
        tracks.triggered.connect(self.show_tracks_requested)

    def _offer_for_one(self, picked: int, others: list[int], is_known: bool) -> None:
        """Offer what concerns the picked instance alone: its pieces, and what it came from."""
        split = self.addAction(f"Split instance {picked}, from this frame on")
        split.setToolTip("Its pieces become instances; the largest keeps its label")
        split.triggered.connect(lambda: self.split_one_requested.emit(picked, False))
        divide = self.addAction(f"Instance {picked} divides here")
        divide.setToolTip("From this frame on its pieces are its children, and it ends itself")
        divide.triggered.connect(lambda: self.split_one_requested.emit(picked, True))
        parents = self.addMenu(f"Instance {picked} came from")
        for parent in (0, *others):
            action = parents.addAction(f"instance {parent}" if parent else "nothing")
            action.triggered.connect(lambda _=False, parent=parent: self.parent_requested.emit(picked, parent))
        for part in (split, divide, parents):
            part.setEnabled(is_known)

    def _offer_split(self, is_split: bool) -> None:
        again = " again" if is_split else ""
        split = self.addAction(f"Split into instances{again}")
        split.setToolTip("Every piece of the mask becomes an instance that keeps its label over time")
        split.triggered.connect(lambda: self.split_requested.emit(False))
        divide = self.addAction(f"Split into instances that divide{again}")
        divide.setToolTip("The same for cells: where one falls into pieces, these are its children")
        divide.triggered.connect(lambda: self.split_requested.emit(True))
