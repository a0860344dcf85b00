"""Carries the masks a person gave along optical flow, to the frames around them. No torch.

The network draws a window's mask at a quarter of its input: legs, wings and thin arms are lost between two corrections
however close they are. Flow keeps them for some frames, and then drifts; what the network says does not drift. So the
carried mask is evidence that fades with the distance to the mask it comes from, where flow contradicts itself, and
where the picture it leads to is another one. What flow has not looked at, it says nothing of.
"""

# H W rows and columns of a frame, h w of a part of it, u v of a part in cells of a chain's grid

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_virst.engine.flow import Flow
from napari_virst.engine.stopping import StoppedError
from napari_virst.errors import VideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_virst.engine.options import CarryRule

    Place = tuple[slice, slice]
    """Rows and columns."""

_NUM_CHAINS = 2
_MARGIN = 0.35
"""How far beyond the object flow is looked at, over the longer side of its box."""
_MIN_MARGIN_PX, _LARGEST_SIDE_CELLS = 48, 384
"""Of small objects that jump, flow needs to see what jumps with them."""
_SURE = 0.25
"""Mean trust of a carried mask from which it says where the object is."""
_FAINT = 0.02
"""Shares are kept between this and 1 less this: flow is never sure of a pixel."""
_SLIP_CELLS = 2.0
"""Standard deviation of the distance between a cell and where flow there and back brings it."""
_CHANGE_GRAY = 20.0
"""Standard deviation of the difference between a cell, 0…255, and the one that flow says it was."""


@dataclass(frozen=True)
class Carried:
    """A soft mask of a part of the frame, in cells of ``stride`` pixels; of what is outside nothing is known."""

    v0: int
    u0: int
    share_vu: NDArray[np.uint8]
    """0…255: how much of a cell is the object."""
    trust_vu: NDArray[np.uint8]
    """0…255: how well flow there and back has agreed so far."""

    @property
    def place(self) -> Place:
        """The part, as rows and columns of cells."""
        height, width = self.share_vu.shape
        return slice(self.v0, self.v0 + height), slice(self.u0, self.u0 + width)


@dataclass
class _Chain:
    """A given mask, and what it has been carried to so far, frame by frame."""

    stride: int
    links: list[Carried]


_NOTHING = Carried(0, 0, np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.uint8))
"""The end of a chain: the object is lost, or a frame could not be read."""


class CarriedMasks:
    """What the masks given around a frame say of it.

    A pure function of frames and masks, whatever the order of asking. At most two chains of masks are kept, each as
    long as the rule reaches and of a bounded number of cells, so memory is bounded.

    Parameters
    ----------
    read_gray
        Returns a frame (H, W) uint8 in grey; may raise :class:`~napari_virst.errors.VideoError`, and nothing is
        carried beyond that frame.
    masks
        Frame to the mask (H, W) bool that a person gave there; all False where the object is absent.
    rule
        How far, and how much.
    only_onward
        Whether masks are carried to later frames alone.
    """

    def __init__(
        self,
        read_gray: Callable[[int], NDArray[np.uint8]],
        masks: Mapping[int, NDArray[np.bool_]],
        rule: CarryRule,
        *,
        only_onward: bool = False,
    ) -> None:
        self._read_gray, self._masks, self._rule, self._only_onward = read_gray, masks, rule, only_onward
        self._frames = sorted(masks)
        self._chains: dict[tuple[int, int], _Chain] = {}
        self._flow = Flow()

    def log_odds(
        self, frame: int, place: Place, should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.float32] | None:
        """Return the log-odds (h, w) float32 to be added to the network's in a part of a frame.

        From the nearest given masks before and after, each trusted by one over its distance. A mask that says "absent"
        carries nothing and ends what comes from beyond it.

        Parameters
        ----------
        frame
            Frame number.
        place
            Rows and columns of the frame, within it.
        should_stop
            Asked before every frame that a mask is carried to.

        Returns
        -------
        numpy.ndarray or None
            0 where nothing is known; None where no given mask is near.

        Raises
        ------
        StoppedError
            When told to stop.
        """
        neighbours = self._neighbours(frame)
        if not neighbours:
            return None
        shape = place[0].stop - place[0].start, place[1].stop - place[1].start
        trust_hw, share_hw = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for given in neighbours:
            chain = self._carry(given, frame, should_stop)
            carried, stride = chain.links[abs(frame - given)], chain.stride
            inside, shown = _overlap(place, _scaled(carried.place, stride))
            own_hw = _pixels(carried.trust_vu, shown, stride) / (255 * abs(frame - given))
            trust_hw[inside] += own_hw
            share_hw[inside] += own_hw * _pixels(carried.share_vu, shown, stride) / 255
        share_hw = np.clip(share_hw / np.maximum(trust_hw, 1e-6), _FAINT, 1 - _FAINT)
        odds_hw = self._rule.weight * np.minimum(1, trust_hw) * np.log(share_hw / (1 - share_hw))
        return np.asarray(odds_hw, np.float32)

    def step(
        self, frame: int, to_frame: int, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[float, float] | None:
        """Return how far (down, right), in pixels, the object goes between two frames; None where flow does not know.

        Raises
        ------
        StoppedError
            When told to stop.
        """
        for given in self._neighbours(to_frame):
            if abs(frame - given) > self._rule.reach_frames or (frame - given) * (to_frame - given) < 0:
                continue
            chain = self._carry(given, frame if abs(frame - given) > abs(to_frame - given) else to_frame, should_stop)
            places = [_centre(chain.links[abs(f - given)], chain.stride) for f in (frame, to_frame)]
            if places[0] is not None and places[1] is not None:
                return places[1][0] - places[0][0], places[1][1] - places[0][1]
        return None

    def _neighbours(self, frame: int) -> list[int]:
        place = bisect_left(self._frames, frame)
        beside = self._frames[max(0, place - 1) : place]
        if not self._only_onward:
            beside += self._frames[place : place + 1]
        reach = self._rule.reach_frames
        return [given for given in beside if 0 < abs(frame - given) <= reach and self._masks[given].any()]

    def _carry(self, given: int, frame: int, should_stop: Callable[[], bool]) -> _Chain:
        """Follow the chain from a given mask as far as a frame; what was followed before is kept."""
        sign = 1 if frame > given else -1
        chain = self._chains.pop((given, sign), None) or _start(self._masks[given])
        self._chains[given, sign] = chain
        while len(self._chains) > _NUM_CHAINS:
            del self._chains[next(iter(self._chains))]
        while len(chain.links) <= abs(frame - given):
            if should_stop():
                raise StoppedError
            last = given + sign * (len(chain.links) - 1)
            chain.links.append(self._step(chain.links[-1], last, last + sign, chain.stride))
        return chain

    def _step(self, carried: Carried, frame: int, to_frame: int, stride: int) -> Carried:
        """Carry a soft mask to the frame beside."""
        box = _box(carried.share_vu > 255 * _FAINT)
        if box is None:
            return _NOTHING
        try:
            there_HW, here_HW = self._read_gray(frame), self._read_gray(to_frame)
            place = _around(_moved(box, carried.v0, carried.u0), stride, here_HW.shape)
            way = self._flow.between(_cells(there_HW, place, stride), _cells(here_HW, place, stride))
        except (VideoError, cv2.error):  # OpenCV takes no picture with a side of 32 767 cells or more
            return _NOTHING
        inside, kept = _overlap(place, carried.place)
        brought = []
        for part_vu in (carried.share_vu, carried.trust_vu):
            whole_vu = np.zeros(way.slip_hw.shape, np.uint8)
            whole_vu[inside] = part_vu[kept]
            brought.append(way.bring(whole_vu))
        trust = np.exp(-(np.square(way.slip_hw / _SLIP_CELLS) + np.square(way.change_hw / _CHANGE_GRAY)) / 2)
        return Carried(place[0].start, place[1].start, brought[0], np.rint(brought[1] * trust).astype(np.uint8))


def _start(mask_HW: NDArray[np.bool_]) -> _Chain:
    """Begin a chain with a mask and its surroundings; large objects get a coarser grid."""
    box = _box(mask_HW)
    assert box is not None, "an absent object starts no chain"
    longest = (1 + 2 * _MARGIN) * max(part.stop - part.start for part in box)
    stride = max(1, math.ceil(longest / _LARGEST_SIDE_CELLS))
    cells = tuple(slice(part.start // stride, -(-part.stop // stride)) for part in box)
    place = _around((cells[0], cells[1]), stride, mask_HW.shape)
    share_vu = _cells(mask_HW.astype(np.uint8) * 255, place, stride)
    return _Chain(stride, [Carried(place[0].start, place[1].start, share_vu, np.full_like(share_vu, 255))])


def _centre(carried: Carried, stride: int) -> tuple[float, float] | None:
    """Return the middle (y, x) of a carried mask, in pixels; None where it is not to be trusted."""
    share = carried.share_vu.astype(np.float64)
    mass = float(share.sum())
    if not mass or float((share * carried.trust_vu).sum()) < 255 * _SURE * mass:
        return None
    (v, u), (rows, columns) = (np.arange(n) + 0.5 for n in share.shape), (share.sum(1), share.sum(0))
    return stride * (carried.v0 + float(rows @ v) / mass), stride * (carried.u0 + float(columns @ u) / mass)


def _box(mask: NDArray[np.bool_]) -> Place | None:
    """Return the rows and columns that hold all of a mask; None where it is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _around(box: Place, stride: int, shape: tuple[int, ...]) -> Place:
    """Rows and columns of cells, within the frame, that flow is looked at in."""
    margin = max(math.ceil(_MIN_MARGIN_PX / stride), round(_MARGIN * max(part.stop - part.start for part in box)))
    rows, columns = (
        slice(max(0, part.start - margin), min(-(-size // stride), part.stop + margin))
        for part, size in zip(box, shape, strict=True)
    )
    return rows, columns


def _moved(box: Place, down: int, right: int) -> Place:
    rows, columns = box
    return slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)


def _scaled(cells: Place, stride: int) -> Place:
    rows, columns = cells
    return slice(rows.start * stride, rows.stop * stride), slice(columns.start * stride, columns.stop * stride)


def _overlap(one: Place, other: Place) -> tuple[Place, Place]:
    """Return what two parts of a picture share: within the one, and within the other."""
    starts = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    stops = [max(start, min(a.stop, b.stop)) for a, b, start in zip(one, other, starts, strict=True)]
    shared = slice(starts[0], stops[0]), slice(starts[1], stops[1])
    first, second = (_moved(shared, -part[0].start, -part[1].start) for part in (one, other))
    return first, second


def _cells(image_HW: NDArray[np.uint8], place: Place, stride: int) -> NDArray[np.uint8]:
    """Return the means of a picture's cells; what is left of the last ones is filled up from the edge."""
    part = np.ascontiguousarray(image_HW[_scaled(place, stride)])
    height, width = (stride * (cells.stop - cells.start) for cells in place)
    if part.shape != (height, width):
        part = np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1])), mode="edge")
    if stride == 1:
        return part
    size = width // stride, height // stride
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def _pixels(part_vu: NDArray[np.uint8], shown: Place, stride: int) -> NDArray[np.float32]:
    """Return pixels (h, w) ``shown``, counted from the part's first, of values in cells; between cells, linear."""
    if stride > 1 and part_vu.size:
        part_vu = cv2.resize(part_vu, None, fx=stride, fy=stride, interpolation=cv2.INTER_LINEAR)
    return part_vu[shown].astype(np.float32)
