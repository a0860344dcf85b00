"""Carries the masks a person gave along optical flow, to the frames around them. No torch.

The network draws a window's mask at a quarter of its input: legs, wings and thin arms are lost between two corrections
however close they are. Flow keeps them for some frames, and then drifts; what the network says does not drift. So the
carried mask is evidence that fades with the distance to the mask it comes from, and where flow contradicts itself.
"""

# H W rows and columns of a frame, h w of a part of it

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_virst.engine.options import CarryRule

_NUM_CHAINS = 2
_MARGIN = 0.35
"""How far beyond the object flow is looked at, over the longer side of its box."""
_MIN_MARGIN_PX, _SMALLEST_SIDE_PX, _LARGEST_SIDE_PX = 16, 64, 384
_FAINT = 0.02
"""Shares are kept between this and 1 less this: flow is never sure of a pixel."""
_SLIP_PX = 2.0
"""Standard deviation of the distance between a pixel and where flow there and back brings it."""


@dataclass(frozen=True)
class Carried:
    """A soft mask of a part of the frame; 0 everywhere else."""

    y0: int
    x0: int
    share_hw: NDArray[np.float32]
    """0…1."""
    trust_hw: NDArray[np.float32]
    """0…1: how well flow there and back has agreed so far."""

    @property
    def place(self) -> tuple[slice, slice]:
        """The part, as rows and columns of the frame."""
        height, width = self.share_hw.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)


class CarriedMasks:
    """What the masks given around a frame say of it.

    A pure function of frames and masks, whatever the order of asking. At most two chains of masks are kept, each as
    long as the rule reaches, so memory is bounded.

    Parameters
    ----------
    read
        Returns a frame (H, W, 3) uint8.
    masks
        Frame to the mask (H, W) bool that a person gave there; all False where the object is absent.
    rule
        How far, and how much.
    only_onward
        Whether masks are carried to later frames alone.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray[np.uint8]],
        masks: Mapping[int, NDArray[np.bool_]],
        rule: CarryRule,
        *,
        only_onward: bool = False,
    ) -> None:
        self._read, self._masks, self._rule, self._only_onward = read, masks, rule, only_onward
        self._frames = sorted(masks)
        self._chains: dict[tuple[int, int], list[Carried]] = {}
        self._flow: Any = None

    def log_odds(self, frame: int) -> NDArray[np.float32] | None:
        """Return the log-odds (H, W) float32 to be added to the network's; None where no given mask is near.

        From the nearest given masks before and after, each trusted by one over its distance. A mask that says "absent"
        carries nothing and ends what comes from beyond it.
        """
        neighbours = self._neighbours(frame)
        if not neighbours:
            return None
        shape = self._masks[neighbours[0]].shape
        trust_HW, share_HW = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for given in neighbours:
            carried = self._carry(given, frame)
            own_HW = np.full(shape, 1 / abs(frame - given), np.float32)
            own_HW[carried.place] *= carried.trust_hw
            trust_HW += own_HW
            share_HW[carried.place] += own_HW[carried.place] * carried.share_hw
        share_HW = np.clip(share_HW / np.maximum(trust_HW, 1e-6), _FAINT, 1 - _FAINT)
        odds_HW = self._rule.weight * np.minimum(1, trust_HW) * np.log(share_HW / (1 - share_HW))
        return np.asarray(odds_HW, np.float32)

    def _neighbours(self, frame: int) -> list[int]:
        place = bisect_left(self._frames, frame)
        beside = self._frames[max(0, place - 1) : place]
        if not self._only_onward:
            beside += self._frames[place : place + 1]
        reach = self._rule.reach_frames
        return [given for given in beside if 0 < abs(frame - given) <= reach and self._masks[given].any()]

    def _carry(self, given: int, frame: int) -> Carried:
        """Follow the chain from a given mask as far as a frame; what was followed before is kept."""
        sign = 1 if frame > given else -1
        chain = self._chains.pop((given, sign), None) or [_given(self._masks[given])]
        self._chains[given, sign] = chain
        while len(self._chains) > _NUM_CHAINS:
            del self._chains[next(iter(self._chains))]
        while len(chain) <= abs(frame - given):
            last = given + sign * (len(chain) - 1)
            chain.append(self._step(chain[-1], last, last + sign, self._masks[given].shape))
        return chain[abs(frame - given)]

    def _step(self, carried: Carried, frame: int, to_frame: int, shape: tuple[int, ...]) -> Carried:
        """Carry a soft mask to the frame beside."""
        if not carried.share_hw.size:
            return carried
        rows, columns = _around(carried, *shape)
        there, here = (_gray(self._read(f)[rows, columns]) for f in (frame, to_frame))
        back, onward = self._flow_between(here, there), self._flow_between(there, here)
        y, x = np.mgrid[: here.shape[0], : here.shape[1]].astype(np.float32)
        source = x + back[..., 0], y + back[..., 1]
        slip = np.square(cv2.remap(onward, *source, cv2.INTER_LINEAR) + back).sum(-1)
        share, trust = np.zeros(here.shape, np.float32), np.ones(here.shape, np.float32)
        inside = Carried(carried.y0 - rows.start, carried.x0 - columns.start, carried.share_hw, carried.trust_hw).place
        share[inside], trust[inside] = carried.share_hw, carried.trust_hw
        share = cv2.remap(share, *source, cv2.INTER_LINEAR)
        trust = cv2.remap(trust, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _crop(share, trust * np.exp(-slip / (2 * _SLIP_PX**2)), rows.start, columns.start)

    def _flow_between(self, gray: NDArray[np.uint8], to_gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the way (h, w, 2) float32, (x, y) in pixels, from each pixel to its like in the other picture.

        DIS (Kroeger et al. 2016), preset "medium". Large objects are looked at smaller, small ones larger: the coarsest
        of its scales needs some pixels.
        """
        height, width = gray.shape
        scale = min(1.0, _LARGEST_SIDE_PX / max(height, width))
        scale = max(scale, _SMALLEST_SIDE_PX / min(height, width))
        size = round(width * scale), round(height * scale)
        if self._flow is None:
            self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        small, to_small = (cv2.resize(g, size, interpolation=cv2.INTER_AREA) for g in (gray, to_gray))
        flow = cv2.resize(self._flow.calc(small, to_small, None), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(flow / (size[0] / width, size[1] / height), np.float32)


def _given(mask_HW: NDArray[np.bool_]) -> Carried:
    share_HW = mask_HW.astype(np.float32)
    return _crop(share_HW, np.ones_like(share_HW), 0, 0)


def _gray(image_hw3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image_hw3), cv2.COLOR_RGB2GRAY), np.uint8)


def _crop(share_hw: NDArray[np.float32], trust_hw: NDArray[np.float32], y0: int, x0: int) -> Carried:
    """Keep the box of what is not faint."""
    seen = share_hw > _FAINT
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return Carried(y0, x0, share_hw[:0, :0], trust_hw[:0, :0])
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Carried(y0 + int(rows[0]), x0 + int(columns[0]), share_hw[part].copy(), trust_hw[part].copy())


def _around(carried: Carried, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the frame that flow is looked at in."""
    margin = max(_MIN_MARGIN_PX, round(_MARGIN * max(carried.share_hw.shape)))
    rows, columns = carried.place
    return (
        slice(max(0, rows.start - margin), min(height, rows.stop + margin)),
        slice(max(0, columns.start - margin), min(width, columns.stop + margin)),
    )
