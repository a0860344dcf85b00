"""Instances inside one track: a union mask taken apart, with identities kept over time. Pure functions.

A label is a number 1…65535 in the mask stack; a lineage says which label came from which by division.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import label as components_of
from skimage.segmentation import watershed

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

MAX_GAP = 5
"""Frames for which an instance may be out of sight and still be known again by its place."""
MIN_CHILD_SHARE = 0.25
"""Least part of its parent's area that a piece must have to be a child; anything smaller is debris."""


@dataclass(frozen=True)
class Lineage:
    """Which instances there are, and which came from which."""

    parents: Mapping[int, int] = field(default_factory=dict)
    """Label of every instance to the label of its parent; 0 where it has none."""

    @property
    def next_label(self) -> int:
        """A label that no instance has had."""
        return max(self.parents, default=0) + 1

    def graph(self) -> dict[int, list[int]]:
        """Return the graph of a napari Tracks layer: child to its parents."""
        return {child: [parent] for child, parent in self.parents.items() if parent}

    def with_instance(self, label: int, parent: int = 0) -> Lineage:
        """Return a lineage that knows one more instance.

        Raises
        ------
        InputError
            When the parent is unknown, or would come to be its own ancestor.
        """
        ancestor = parent
        while ancestor:
            if ancestor not in self.parents:
                raise InputError(f"The parent of instance {label} must be known; got {parent}; choose another.")
            if ancestor == label:
                raise InputError(
                    f"The parent of instance {label} must not have come from it; got {parent}, which did; say first "
                    f"that instance {parent} came from nothing."
                )
            ancestor = self.parents[ancestor]
        return Lineage({**self.parents, label: parent})


def split_instances(
    masks: Iterable[NDArray[np.bool_]], *, divides: bool = False, min_area_px: int = 1
) -> Iterator[tuple[NDArray[np.uint16], Lineage]]:
    """Take a union mask apart into instances, frame by frame.

    A piece takes the label of the instance with which it shares most pixels, also of one that went out of sight up to
    ``MAX_GAP`` frames ago; what shares nothing is new. Of several pieces that share pixels with one instance the
    largest share keeps its label.

    Parameters
    ----------
    masks
        (H, W) bool, in order of time.
    divides
        Whether such pieces are children instead, where each has at least ``MIN_CHILD_SHARE`` of the parent's area:
        for cells. Otherwise the others are new instances.
    min_area_px
        Smaller pieces join the nearest larger one.

    Yields
    ------
    labels : (H, W) uint16
        0 exactly where the mask is False.
    lineage : Lineage
        Of all frames so far.
    """
    lineage, seen = Lineage(), _Seen()
    for mask in masks:
        pieces = _pieces(mask, min_area_px)
        chosen, lineage = _name(pieces, seen, lineage, divides)
        labels = renamed(pieces, chosen)
        seen.add(labels)
        yield labels, lineage


class _Seen:
    """Where each instance was seen last, and how many frames ago."""

    def __init__(self) -> None:
        self._at: dict[int, tuple[NDArray[np.intp], int]] = {}

    def add(self, labels: NDArray[np.uint16]) -> None:
        self._at = {label: (where, age + 1) for label, (where, age) in self._at.items() if age < MAX_GAP}
        for label in _labels_in(labels):
            self._at[label] = np.flatnonzero(labels == label), 0

    def shares(self, pieces: NDArray[np.intp]) -> list[tuple[int, int, int]]:
        """(pixels shared, label, piece) of every pair that shares any, most first; the latest seen win ties."""
        found = []
        for label, (where, age) in self._at.items():
            counts = np.bincount(pieces.ravel()[where])
            found += [(-int(n), age, label, piece) for piece, n in enumerate(counts.tolist()) if piece and n]
        return [(-n, label, piece) for n, _, label, piece in sorted(found)]

    def area_px(self, label: int) -> int:
        return len(self._at[label][0])

    def forget(self, label: int) -> None:
        self._at.pop(label, None)


def _name(pieces: NDArray[np.intp], seen: _Seen, lineage: Lineage, divides: bool) -> tuple[dict[int, int], Lineage]:
    """Choose a label for every piece."""
    chosen: dict[int, int] = {}
    shares = seen.shares(pieces)
    for parent, children in _divisions(shares, pieces, seen).items() if divides else ():
        for piece in children:
            chosen[piece] = lineage.next_label
            lineage = lineage.with_instance(chosen[piece], parent)
        seen.forget(parent)
        shares = [share for share in shares if share[1] != parent]
    for _, label, piece in shares:
        if piece not in chosen and label not in chosen.values():
            chosen[piece] = label
    for piece in _labels_in(pieces):
        if piece not in chosen:
            chosen[piece] = lineage.next_label
            lineage = lineage.with_instance(chosen[piece])
    return chosen, lineage


def _divisions(shares: list[tuple[int, int, int]], pieces: NDArray[np.intp], seen: _Seen) -> dict[int, list[int]]:
    """Label of every instance that divides, to its children's pieces."""
    areas = np.bincount(pieces.ravel())
    best: dict[int, int] = {}
    for _, label, piece in shares:
        best.setdefault(piece, label)
    found: dict[int, list[int]] = {}
    for piece, label in sorted(best.items()):
        if areas[piece] >= MIN_CHILD_SHARE * seen.area_px(label):
            found.setdefault(label, []).append(piece)
    return {label: children for label, children in found.items() if len(children) > 1}


def _pieces(mask: NDArray[np.bool_], min_area_px: int) -> NDArray[np.intp]:
    """(H, W) 1…n, the connected pieces of a mask; small ones take the number of the nearest larger one."""
    pieces = np.asarray(components_of(mask, connectivity=2), np.intp)
    areas = np.bincount(pieces.ravel())
    large = areas >= min_area_px
    if large[1:].all() or not large[1:].any():
        return pieces
    return np.asarray(_spread(np.where(large[pieces], pieces, 0), mask), np.intp)


def num_pieces(mask: NDArray[np.bool_]) -> int:
    """Count the connected pieces of a mask (H, W) bool; touching at a corner is connected."""
    return int(components_of(mask, connectivity=2).max(initial=0))


def carry_labels(mask: NDArray[np.bool_], before: NDArray[np.uint16], default: int) -> NDArray[np.uint16]:
    """Give a new union mask the labels of an older answer for the same frame.

    Parameters
    ----------
    mask
        (H, W) bool.
    before
        (H, W), the older labels.
    default
        For pieces that share no pixel with any.

    Returns
    -------
    (H, W) uint16
        A piece that meets several labels is divided among them by nearness.
    """
    labels = np.zeros(mask.shape, np.uint16)
    pieces = np.asarray(components_of(mask, connectivity=2), np.intp)
    for piece in _labels_in(pieces):
        inside = pieces == piece
        met = _labels_in(np.where(inside, before, 0))
        if len(met) > 1:
            labels[inside] = _spread(np.where(inside, before, 0), inside)[inside]
        else:
            labels[inside] = met[0] if met else default
    return labels


def _spread(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Fill ``mask`` from the labels in it, each pixel from the nearest; pieces without any from the nearest beyond."""
    flat = np.zeros(mask.shape, np.uint8)
    filled = watershed(flat, labels, mask=mask)
    if (filled[mask] != 0).all():
        return np.asarray(filled)
    return np.where(mask, watershed(flat, labels), 0)


def merge(labels: NDArray[np.uint16], into: int, other: int) -> NDArray[np.uint16]:
    """Return labels in which ``other`` is part of ``into``."""
    return renamed(labels, {other: into})


def swap(labels: NDArray[np.uint16], one: int, other: int) -> NDArray[np.uint16]:
    """Return labels in which two instances have changed names."""
    return renamed(labels, {one: other, other: one})


def renamed(labels: NDArray[np.integer], names: Mapping[int, int]) -> NDArray[np.uint16]:
    """Return labels with other names; those not named stay."""
    table = np.arange(max(int(labels.max(initial=0)), *names, 0) + 1)
    for old, new in names.items():
        table[old] = new
    return np.asarray(table[labels], np.uint16)


def by_area(labels: NDArray[np.integer]) -> list[int]:
    """Return the labels that occur, the one with most pixels first."""
    areas = np.bincount(labels.ravel())
    return sorted(_labels_in(labels), key=lambda label: (-int(areas[label]), label))


def _labels_in(labels: NDArray[np.integer]) -> list[int]:
    return [int(label) for label in np.unique(labels) if label]


def tracks_of(frames: Iterable[tuple[int, NDArray[np.uint16]]]) -> NDArray[np.float64]:
    """Return (N, 4) of (label, t, y, x), sorted by label and time: the data of a napari Tracks layer.

    ``frames`` are pairs of a frame number and its labels (H, W); (y, x) is the centre of an instance's pixels.
    """
    rows = []
    for frame, labels in frames:
        y, x = np.nonzero(labels)
        values = labels[y, x]
        counts = np.bincount(values)
        for label in _labels_in(values):
            here = values == label
            rows.append((label, frame, y[here].sum() / counts[label], x[here].sum() / counts[label]))
    return np.asarray(sorted(rows), np.float64).reshape(-1, 4)
