"""Waking what the first query needs while the person still types, without a pause in the window.

Two things hold Python's lock for long while modules are imported in another thread, and so stop the window: mapping
torch's library into memory (0.5 s), and full garbage collections, which the growing number of objects sets off (five
of them, 0.06–0.35 s each). The first is done beforehand by a call that does not hold the lock, the second put off.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

DELAY_MS = 1000
"""The window is drawn first."""

_FROZEN_BY_PYTHON = 1000
"""At most; Python 3.12 begins with 375 objects left out of collections. A program that freezes has many more."""


def warm_up(wake_model: Callable[[], object] | None = None) -> threading.Thread:
    """Wake, in a thread, what napari needs for its first Labels layer, then the model.

    Parameters
    ----------
    wake_model : callable, optional
        Loads the model, and keeps it; what it raises is left for the first run to say.
    """
    # Not a daemon: an interpreter that ends under a half imported torch crashes.
    thread = threading.Thread(target=_warm, args=(wake_model,), name="virst warm-up", daemon=wake_model is None)
    thread.start()
    return thread


def _warm(wake_model: Callable[[], object] | None) -> None:
    try:
        with without_collections():
            importlib.import_module("pandas")
            colormaps = importlib.import_module("napari.utils.colormaps.colormap_utils")
            colormaps.label_colormap(2)  # imports scipy.linalg
        if wake_model is not None:
            wake_model()
    except Exception:  # what is wrong comes again where it is needed, and is said there
        logger.info("Warming up ended early", exc_info=True)


def import_predictor() -> Callable[..., object]:
    """Import torch and all that the engine needs, and return ``load_segmenter``."""
    if "napari_virst.engine.predictor" not in sys.modules:
        _map_torch()
        with without_collections():
            importlib.import_module("napari_virst.engine.predictor")
    from napari_virst.engine.predictor import load_segmenter

    return load_segmenter


def _map_torch() -> None:
    """Have the system map torch's library, as ``import torch`` would, but without holding Python's lock."""
    spec = find_spec("torch") if "torch" not in sys.modules else None
    if spec is None or spec.origin is None or sys.platform != "linux":
        return
    library = Path(spec.origin).parent / "lib" / "libtorch_cpu.so"
    if library.exists():
        # ctypes lets go of the lock around foreign calls, though not around its own loading.
        system = ctypes.CDLL(None)
        system.dlopen.restype, system.dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
        system.dlopen(os.fsencode(library), os.RTLD_LAZY)


@contextmanager
def without_collections() -> Iterator[None]:
    """Put off garbage collection while many objects come that stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() < _FROZEN_BY_PYTHON:
            gc.freeze()
            gc.unfreeze()  # both together: what came counts as old, and is not looked through at once
        if was_on:
            gc.enable()
