"""Masks as COCO's run lengths, which benchmarks publish."""

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
