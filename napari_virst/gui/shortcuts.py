"""Keys on our own layers; nothing is bound anywhere else, and Ctrl+Z stays napari's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from napari.utils.key_bindings import coerce_keybinding

from napari_virst.gui.layers import masks_of, noting_edits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Labels

_ESCAPE = "Escape"


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

    def cancel(self) -> None:
        """Stop what runs."""


def keys_for(corrections: Corrections) -> Mapping[str, Callable[[Labels], None]]:
    """Say which key does what, as napari writes keys."""

    def escape(layer: Labels) -> None:  # no partial: napari asks every action for its __name__
        """Stop what runs, unless Escape means something to napari just now: a shape half drawn."""
        is_polygon = str(layer.mode) == "polygon"
        if not _takes_stroke_back(layer) and not is_polygon:
            corrections.cancel()

    return {
        "C": corrections.commit,
        "K": corrections.mark_absent,
        "Shift-S": corrections.repropagate,
        "N": corrections.review_next,
        "Shift-N": corrections.review_previous,
        "Shift-A": corrections.accept,
        "U": corrections.lock,
        "Control-Alt-Z": corrections.undo,
        _ESCAPE: escape,
    }


def bind_keys(layer: Labels, corrections: Corrections) -> None:
    """Bind the keys on this one layer; they work while it is active."""
    for key, action in keys_for(corrections).items():
        layer.bind_key(key, action, overwrite=True)


def unbind_keys(layer: Labels, corrections: Corrections) -> None:
    """Take our keys off a layer that outlives its session."""
    for key in keys_for(corrections):
        layer.bind_key(key, None)


def _takes_stroke_back(layer: Labels) -> bool:
    """Have napari do what Escape means to it; True where that took pixels back."""
    own = type(layer).class_keymap.get(coerce_keybinding(_ESCAPE))
    masks = masks_of(layer)
    if not callable(own) or masks is None:
        return False
    with noting_edits(masks) as edited:
        own(layer)
    return bool(edited)
