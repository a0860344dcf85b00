"""Describe what to follow in a video, watch editable labels fill in, fix a few frames, and the rest follows.

Importing this package wakes neither torch nor Qt: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("napari-virst")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "open_video": "napari_virst.io.video",
    "load_segmenter": "napari_virst.engine.predictor",
    "AnnotationSession": "napari_virst.session.session",
    "VirstConfig": "napari_virst.model.config",
    "VirstModel": "napari_virst.model.virst",
    "VirstProcessor": "napari_virst.model.processing",
}

__all__ = [
    "AnnotationSession",
    "VirstConfig",
    "VirstModel",
    "VirstProcessor",
    "__version__",
    "load_segmenter",
    "open_video",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have no common type
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
