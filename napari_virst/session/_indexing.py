"""Numpy's assignment, taken apart by frame: pure functions."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import MaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Shape = tuple[int, int, int]


def writes_by_frame(key: Any, value: Any, shape: Shape) -> Iterator[tuple[int, Any, NDArray[Any]]]:  # noqa: ANN401
    """Split the assignment ``stack[key] = value`` into assignments to single frames.

    Parameters
    ----------
    key
        Anything that indexes a (T, H, W) array: integers, slices, ellipsis, integer arrays, boolean masks.
    value
        A number or an array that broadcasts to the selection.
    shape
        (T, H, W).

    Yields
    ------
    frame
        Its number, 0…T-1.
    frame_key
        Indexes the (H, W) array of that frame.
    values
        Broadcasts to the selection within the frame.

    Raises
    ------
    IndexError
        When the key selects outside of the stack.
    ValueError
        When the value does not broadcast to the selection.
    """
    keys = key if isinstance(key, tuple) else (key,)
    values = np.asarray(value)
    if all(_is_basic(part) for part in keys) and keys.count(Ellipsis) < 2:
        return _split_basic(_without_ellipsis(keys), values, shape)
    return _split_any(keys, values, shape)


def as_labels(value: Any) -> NDArray[np.uint16]:  # noqa: ANN401 - whatever can be assigned to an array
    """Return ``value`` as labels, uint16, of the same shape.

    Raises
    ------
    MaskError
        When it holds anything but whole numbers 0…65535.
    """
    values = np.asarray(value)
    if values.dtype in (np.uint16, np.uint8, np.bool_):
        return values.astype(np.uint16, copy=False)
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.uint16)
    if not np.array_equal(labels, values):
        raise MaskError(f"Labels must be whole numbers 0…65535; got {values.min()} to {values.max()}; renumber them.")
    return labels


def _is_basic(part: object) -> bool:
    if isinstance(part, (slice, EllipsisType)):
        return True
    return isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_))


def _without_ellipsis(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    at = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    before, after = keys[:at], keys[at + 1 :]
    return (*before, *[slice(None)] * (3 - len(before) - len(after)), *after)


def _split_basic(
    keys: tuple[Any, ...], values: NDArray[Any], shape: Shape
) -> Iterator[tuple[int, tuple[Any, ...], NDArray[Any]]]:
    if len(keys) > 3:
        raise IndexError(f"A mask stack must be indexed by at most 3 axes (T, H, W); got {len(keys)}.")
    frames_key, frame_key = keys[0], keys[1:]
    selected = np.broadcast_to(np.empty((), np.bool_), shape[1:])[frame_key].shape
    if not isinstance(frames_key, slice):
        yield range(shape[0])[operator.index(frames_key)], frame_key, _broadcast(values, selected)
        return
    frames = range(shape[0])[frames_key]
    yield from zip(frames, [frame_key] * len(frames), _broadcast(values, (len(frames), *selected)), strict=True)


def _split_any(
    keys: tuple[Any, ...], values: NDArray[Any], shape: Shape
) -> Iterator[tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[Any]]]:
    # Indexing the coordinates instead of the pixels leaves every rule of numpy's indexing to numpy.
    t, y, x = (np.broadcast_to(axis, shape)[keys].ravel() for axis in np.ogrid[tuple(slice(n) for n in shape)])
    selected = np.broadcast_to(np.empty((), np.bool_), shape)[keys].shape
    values = _broadcast(values, selected).ravel()
    # Stable, so that of two values for one pixel the later wins, as in numpy.
    order = np.argsort(t, kind="stable")
    starts = np.flatnonzero(np.diff(t[order], prepend=-1))
    for part in np.split(order, starts[1:]) if order.size else ():
        yield int(t[part[0]]), (y[part], x[part]), values[part]


def _broadcast(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]
    return np.broadcast_to(values, shape)
