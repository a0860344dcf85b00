"""Masks as COCO's run lengths, which benchmarks publish and trainers read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import InputError, MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode_run_lengths(run_lengths: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask in COCO's run lengths, compressed (text) or not (list of numbers).

    Parameters
    ----------
    run_lengths
        {"size": [H, W], "counts": text or list}.
    shape
        (H, W) that the mask must have.

    Raises
    ------
    MaskError
        When it is malformed or of another size.
    InputError
        When pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise InputError(
            "True masks as run lengths must be decoded by pycocotools; it is not installed; "
            'run pip install "napari-virst[evaluate]".'
        ) from error
    if not isinstance(run_lengths, dict) or list(run_lengths.get("size", ())) != list(shape):
        raise MaskError(
            f"A true mask must have the size of its video, {shape[0]}×{shape[1]}; got {run_lengths!s:.80}; "
            "check that frames and masks are of one data set."
        )
    try:
        if isinstance(run_lengths["counts"], list):
            run_lengths = coco.frPyObjects(run_lengths, *shape)
        return np.asarray(coco.decode(run_lengths), np.bool_)
    except (KeyError, ValueError, TypeError) as error:
        raise MaskError(f"A true mask must be COCO run lengths; got {error}; download the masks again.") from error


def encode_run_lengths(
    mask: NDArray[np.bool_], shape: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """Encode a mask as COCO's compressed run lengths.

    Parameters
    ----------
    mask
        (h, w) bool; the whole mask, or the part of it that holds every pixel of the object.
    shape
        (H, W) of the whole mask; that of ``mask`` where left out.
    corner
        (y, x) of the part's upper left pixel.

    Returns
    -------
    {"size": [H, W], "counts": text}.
    """
    height, width = mask.shape if shape is None else shape
    counts = _run_lengths(mask, (height, width), corner)
    differences = counts.copy()
    differences[3:] -= counts[1:-2]  # from the fourth on, as the difference to the run of the same kind before it
    return {"size": [height, width], "counts": "".join(map(_letters, differences.tolist()))}


def _run_lengths(mask: NDArray[np.bool_], shape: tuple[int, int], corner: tuple[int, int]) -> NDArray[np.int64]:
    """Lengths of the runs down the columns, background first."""
    height, width = shape
    padded = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    padded[:, 1:-1] = mask.T
    steps = np.diff(padded, axis=1)
    starts, ends = (_positions(steps == step, height, corner) for step in (1, -1))
    goes_on = starts[1:] == ends[:-1]  # from the foot of one column to the head of the next
    starts = starts[np.r_[True, ~goes_on][: starts.size]]
    ends = ends[np.r_[~goes_on, True][-ends.size :]] if ends.size else ends
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.r_[0, edges, height * width])
    return np.asarray(counts[:-1] if counts[-1] == 0 and counts.size > 1 else counts, np.int64)


def _positions(is_edge: NDArray[np.bool_], height: int, corner: tuple[int, int]) -> NDArray[np.int64]:
    columns, rows = np.nonzero(is_edge)
    return (columns.astype(np.int64) + corner[1]) * height + rows + corner[0]


def _letters(number: int) -> str:
    """Five bits a letter, the lowest first, from "0" on; the sixth bit says that more follow."""
    letters = []
    while True:
        bits, number = number & 31, number >> 5
        is_last = number == (-1 if bits & 16 else 0)
        letters.append(chr(48 + (bits if is_last else bits | 32)))
        if is_last:
            return "".join(letters)
