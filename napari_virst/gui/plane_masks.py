"""The masks of one plane of a volume, in the volume's own axes: what napari's Labels layer holds there."""

from __future__ import annotations

import math
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from napari_virst.session.masks import MaskStore


class PlaneMasks:
    """(T, 1, …, H, W) uint16 labels over a (T, H, W) :class:`MaskStore`, which keeps every pixel; behaves as an array.

    Nothing is copied but what is read, and every write is the store's own, so that it knows whose edit it is.

    Parameters
    ----------
    masks : MaskStore
        Where the pixels are.
    ndim : int
        Number of axes, at least 3; those between time and (H, W) are of size 1.
    """

    def __init__(self, masks: MaskStore, ndim: int) -> None:
        self.masks = masks
        self.ndim = ndim
        self.dtype = masks.dtype
        num_frames, height, width = masks.shape
        self.shape = (num_frames, *[1] * (ndim - 3), height, width)

    @property
    def size(self) -> int:
        """Number of pixels of all frames."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<PlaneMasks {self.shape} of {self.masks!r}>"

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - numpy's own indexing
        """Return a copy of what numpy would select."""
        keys = self._basic(key)
        if keys is None:
            return self.masks[self._places(key)]
        selected = self._selected_shape(key)
        if 0 in selected:
            return np.zeros(selected, self.dtype)
        labels = self.masks[_without_planes(keys)]
        return labels.reshape(selected) if isinstance(labels, np.ndarray) else np.full(selected, labels)[()]

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401 - numpy's own indexing
        """Change pixels as a person, through the store's door for people.

        Raises
        ------
        MaskError
            When values are no labels 0…65535.
        ProjectError
            When the disk is full.
        """
        keys = self._basic(key)
        if keys is None:
            self.masks[self._places(key)] = value
            return
        selected = self._selected_shape(key)
        values = _broadcast(np.asarray(value), selected)
        if 0 not in selected:
            self.masks[_without_planes(keys)] = values[self._dropping_planes(keys)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all labels; without a copy or another type they are read-only and stay on disk."""
        return np.array(np.asarray(self.masks).reshape(self.shape), dtype=dtype, copy=copy)

    def astype(self, dtype: DTypeLike, **_options: object) -> NoReturn:
        """Refuse to become another type; see :meth:`MaskStore.astype`."""
        self.masks.astype(dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> NDArray[np.uint16]:
        """Return a plain array: a duplicate of the layer is not the annotation any more."""
        return np.array(self)

    def _basic(self, key: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
        """Give a number or slice for every axis; None where the key holds anything else, as arrays or new axes."""
        keys = key if isinstance(key, tuple) else (key,)
        if not all(_is_basic(part) for part in keys) or sum(part is Ellipsis for part in keys) > 1:
            return None
        at = next((place for place, part in enumerate(keys) if part is Ellipsis), len(keys))
        before, after = keys[:at], keys[at + 1 :]
        return (*before, *[slice(None)] * (self.ndim - len(before) - len(after)), *after)

    def _selected_shape(self, key: Any) -> tuple[int, ...]:  # noqa: ANN401
        """Say what numpy would select, which also checks the key."""
        return tuple(np.broadcast_to(np.empty((), np.bool_), self.shape)[key].shape)

    def _places(self, key: Any) -> tuple[NDArray[np.intp], ...]:  # noqa: ANN401
        """Give (t, y, x) of every selected pixel: indexing coordinates leaves every rule of indexing to numpy."""
        grid = np.ogrid[tuple(slice(size) for size in self.shape)]
        return tuple(np.broadcast_to(grid[axis], self.shape)[key] for axis in (0, self.ndim - 2, self.ndim - 1))

    def _dropping_planes(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        """Index what ``keys`` select so that the axes of size 1 are gone."""
        is_plane = [0 < axis < self.ndim - 2 for axis in range(self.ndim)]
        kept = [plane for plane, part in zip(is_plane, keys, strict=True) if isinstance(part, slice)]
        return tuple(0 if plane else slice(None) for plane in kept)


def _is_basic(part: object) -> bool:
    if isinstance(part, (slice, EllipsisType)):
        return True
    return isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_))


def _without_planes(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    return (keys[0], *keys[-2:])


def _broadcast(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]
    return np.broadcast_to(values, shape)
