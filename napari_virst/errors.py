"""Everything that can go wrong, as one tree.

::

    VirstError
    ├── InputError          what the user gave cannot be used
    │   ├── VideoError          a video that cannot be opened or read
    │   ├── MaskError           a mask of the wrong shape, type or content
    │   └── QueryError          an empty or impossible query
    ├── CheckpointError     model files that are missing, foreign, damaged or unsafe
    ├── DeviceError         a device that is absent or too small
    ├── ProjectError        a project folder that cannot be opened or saved
    └── SegmentationError   the model failed while running

Messages have one form: "X must be …; got …; do …".
"""

from __future__ import annotations


class VirstError(Exception):
    """Base of every error that napari-virst raises on purpose; its text is fit to be shown to a user."""


class InputError(VirstError, ValueError):
    """What the user gave cannot be used."""


class VideoError(InputError):
    """A video cannot be opened, or a frame of it cannot be read."""


class MaskError(InputError):
    """A mask has the wrong shape, type or content."""


class QueryError(InputError):
    """A query is empty or cannot be asked."""


class CheckpointError(VirstError):
    """Model files are missing, foreign, damaged or unsafe."""


class DeviceError(VirstError):
    """A device is absent or too small."""


class ProjectError(VirstError):
    """A project folder cannot be opened or saved."""


class SegmentationError(VirstError):
    """The model failed while running; the message names the frame."""
