"""Exports the labels of an image as a data set, in a worker, and says what came of it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from napari_virst.gui import layers, sentences
from napari_virst.io.video import open_video

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.export_dialog import ExportWish
    from napari_virst.gui.layers import VideoSource
    from napari_virst.io.exporting import ExportReport


def export_desk(desk: Desk, wish: ExportWish, say: Callable[[str], None]) -> None:
    """Export what the session of a desk holds; nothing is painted meanwhile.

    Parameters
    ----------
    desk
        Of the image whose queries are exported.
    wish
        What, and where to.
    say
        Shows a sentence.

    Raises
    ------
    VirstError
        When a run or something else is at work, or the session cannot be saved.
    """
    desk.check_idle()
    desk.session.save()
    source = layers.video_source(desk.image) if wish.with_frames else None
    action = partial(_export, desk.session.folder, source, wish)
    say(f"Exporting to {wish.folder} …")
    desk.do_in_background(
        "exporting", action, lambda report: say(sentences.exported(report, wish.folder)), can_cancel=False
    )


def _export(project: Path, source: VideoSource | None, wish: ExportWish) -> ExportReport:
    from napari_virst.io.exporting import export_labels, open_labelled

    with ExitStack() as stack:
        labels = stack.enter_context(open_labelled(project))
        video = None if source is None else stack.enter_context(open_video(source.data, axes=source.axes))
        images = None if video is None else [video]
        return export_labels([labels], wish.folder, wish.format, only_reviewed=wish.only_reviewed, images=images)
