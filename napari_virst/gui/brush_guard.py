"""Keeps the brush off what is not in view: napari paints a plane beside the one in view, or fails, frames beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_virst.gui.desks import Desks

_PAINTING = ("paint", "erase", "fill", "polygon")


class BrushGuard:
    """Turns a press of the mouse into moving the camera where the labels under a painting tool are not in view.

    The viewer hears of the mouse before its layers do; the tool is in hand again when the mouse is released.

    Parameters
    ----------
    viewer : ViewerModel
        Whose mouse is listened to.
    desks : Desks
        The annotated images.
    report : callable
        Shows a sentence as an error.
    """

    def __init__(self, viewer: ViewerModel, desks: Desks, report: Callable[[str], None]) -> None:
        self._viewer, self._desks, self._report = viewer, desks, report
        viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Listen no more."""
        self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, _viewer: ViewerModel, event: Any) -> Iterator[None]:  # noqa: ANN401 - private in napari
        layer = self._to_be_kept_off()
        if layer is None:
            return
        mode, layer.mode = layer.mode, "pan_zoom"
        yield
        while event.type == "mouse_move":
            yield
        layer.mode = mode

    def _to_be_kept_off(self) -> Labels | None:
        owner = self._desks.find(self._viewer.layers.selection.active)
        layer = None if owner is None else owner[0].layer_of(owner[1].track_id)
        if owner is None or layer is None or str(layer.mode) not in _PAINTING:
            return None
        try:
            owner[0].view.frame_to_change()
        except InputError as error:
            self._report(str(error))
            return layer
        return None
