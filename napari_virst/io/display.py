"""What the user sees as RGB: contrast limits, gamma and colormap, applied to frames of any dtype."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import VideoError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_ROBUST_PERCENTILES = (0.02, 99.98)
"""Near the whole range, yet a handful of hot pixels (fewer than 1 in 5 000) does not blacken the rest."""


@dataclass(frozen=True, eq=False)
class Display:
    """How values become colours; two displays are equal when they make the same colours."""

    contrast_limits: tuple[float, float] | None = None
    """The values shown as the darkest and the brightest; None means the whole range of the dtype (0…1 for float)."""
    colormap: NDArray[np.floating[Any]] | None = None
    """(N, 3 or 4) RGB(A) control points 0…1, evenly spaced from dark to bright, N >= 2; None is gray.
    Alpha is dropped. Colour videos ignore it."""
    gamma: float = 1.0
    """Exponent after scaling to 0…1, as in napari: below 1 brightens."""

    def __post_init__(self) -> None:
        limits = self.contrast_limits
        if limits is not None and not (all(map(math.isfinite, limits)) and limits[0] <= limits[1]):
            raise VideoError(f"Contrast limits must be finite and ascending; got {limits}; give (low, high).")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise VideoError(f"gamma must be greater than 0; got {self.gamma}; 1 leaves the picture as it is.")
        points = self.colormap
        if points is not None and not (points.ndim == 2 and len(points) >= 2 and points.shape[1] in (3, 4)):
            raise VideoError(f"A colormap must be (N, 3 or 4) control points, N >= 2; got shape {points.shape}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Display) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Short text that differs where the colours may differ."""
        points = None if self.colormap is None else np.asarray(self.colormap, np.float64).tolist()
        settings = repr((self.contrast_limits and tuple(map(float, self.contrast_limits)), points, float(self.gamma)))
        return hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()

    def to_rgb(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn a frame into what the user sees.

        Parameters
        ----------
        frame
            (H, W) or (H, W, 3), any real dtype.

        Returns
        -------
        (H, W, 3) uint8 RGB. NaN becomes the darkest value. An RGB uint8 frame that the settings leave alone is
        returned itself, not a copy.
        """
        is_colour = frame.ndim == 3
        levels: NDArray[np.uint8] = frame if self._is_identity(frame.dtype) else self._levels(frame)
        if is_colour:
            return levels
        if self.colormap is None:
            return np.stack([levels] * 3, axis=-1)
        return np.take(self._table(), levels, axis=0)

    def _is_identity(self, dtype: np.dtype[Any]) -> bool:
        return dtype == np.uint8 and self.gamma == 1 and self.contrast_limits in (None, (0, 255))

    def _levels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Brightness 0…255 of each value; small unsigned integers go through a table (8 times faster at 1080p)."""
        dtype = values.dtype
        low, high = self.contrast_limits or full_range(dtype)
        if dtype in (np.uint8, np.uint16) and values.size > np.iinfo(dtype).max:
            every_value = np.arange(np.iinfo(dtype).max + 1)
            return np.asarray(_scale(every_value, low, high, self.gamma)[values])
        return _scale(values, low, high, self.gamma)

    def _table(self) -> NDArray[np.uint8]:
        """The colormap as (256, 3) uint8."""
        points = np.clip(np.asarray(self.colormap, np.float64)[:, :3], 0, 1)
        at = np.linspace(0, len(points) - 1, 256)
        channels = [np.interp(at, np.arange(len(points)), points[:, c]) for c in range(3)]
        return np.rint(np.stack(channels, axis=1) * 255).astype(np.uint8)


def full_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The range that a dtype shows by itself: all its values for integers, 0…1 for float and bool."""
    if dtype.kind in "ui":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return 0.0, 1.0


def robust_limits(frames: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> tuple[float, float]:
    """Contrast limits from a few sampled frames: all but the 0.02 % darkest and brightest finite values.

    Parameters
    ----------
    frames
        Arrays of any one shape and of dtype ``dtype``.
    dtype
        What to fall back on: its full range, where no value is finite.
    """
    # Each frame is measured by itself, so that memory holds one at a time; the widest of the ranges is taken.
    ranges = [
        np.percentile(finite, _ROBUST_PERCENTILES)
        for finite in (frame[np.isfinite(frame)] for frame in frames)
        if finite.size
    ]
    if not ranges:
        return full_range(dtype)
    low, high = float(min(pair[0] for pair in ranges)), float(max(pair[1] for pair in ranges))
    if dtype.kind in "ui":
        low, high = math.floor(low), math.ceil(high)
    return (low, high) if low < high else (min(low, 0.0), max(high, 1.0))  # a flat video, as napari does


def _scale(values: NDArray[Any], low: float, high: float, gamma: float) -> NDArray[np.uint8]:
    # An empty range shows all above it as bright, all else as dark; it must not divide by zero.
    width = max(high - low, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore", invalid="ignore"):
        unit = np.clip((values.astype(np.float64) - low) / width, 0, 1)
    unit = np.nan_to_num(unit, nan=0.0, copy=False)
    return np.rint(255 * (unit if gamma == 1 else unit**gamma)).astype(np.uint8)
