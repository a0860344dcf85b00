"""Keys on our own layers; nothing is bound anywhere else, and Ctrl+Z stays napari's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Labels


class Corrections(Protocol):
    """What can be asked for by a key while one of our layers is active."""

    def commit(self, layer: Labels) -> None:
        """Take the frame in view as an anchor."""

    def mark_absent(self, layer: Labels) -> None:
        """Declare the frame in view empty."""

    def repropagate(self, layer: Labels) -> None:
        """Follow again from the corrections."""

    def review_next(self, layer: Labels) -> None:
        """Go to the next frame to look at."""

    def review_previous(self, layer: Labels) -> None:
        """Go to the last frame to look at."""

    def accept(self, layer: Labels) -> None:
        """Vouch for the selected frames, or the one in view."""

    def lock(self, layer: Labels) -> None:
        """Have runs leave the selected frames, or the one in view, alone, or no longer."""

    def undo(self, layer: Labels) -> None:
        """Take back the last run, correction or acceptance of the track."""


def keys_for(corrections: Corrections) -> Mapping[str, Callable[[Labels], None]]:
    """Say which key does what, as napari writes keys."""
    return {
        "C": corrections.commit,
        "K": corrections.mark_absent,
        "Shift-S": corrections.repropagate,
        "N": corrections.review_next,
        "Shift-N": corrections.review_previous,
        "Shift-A": corrections.accept,
        "U": corrections.lock,
        "Control-Alt-Z": corrections.undo,
    }


def bind_keys(layer: Labels, corrections: Corrections) -> None:
    """Bind the keys on this one layer; they work while it is active."""
    for key, action in keys_for(corrections).items():
        layer.bind_key(key, action, overwrite=True)


def unbind_keys(layer: Labels, corrections: Corrections) -> None:
    """Take our keys off a layer that outlives its session."""
    for key in keys_for(corrections):
        layer.bind_key(key, None)
