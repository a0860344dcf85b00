"""The annotated images of one viewer, a desk each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal

from napari_virst.errors import InputError, ProjectError
from napari_virst.gui import layers, planes, sentences
from napari_virst.gui.desk import Desk
from napari_virst.gui.frames import LayerFrames
from napari_virst.io.project import ProjectFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_virst.gui.shortcuts import Corrections
    from napari_virst.io.project import VideoRecord
    from napari_virst.session.session import AnnotationSession, Track


class Sessions(Protocol):
    """Where sessions come from; the desks know neither models nor threads."""

    @property
    def folder(self) -> Path:
        """Where sessions live until they are saved elsewhere."""

    def start(self, frames: LayerFrames, name: str) -> AnnotationSession:
        """Make a session, in a folder of its own, on frames that it takes over."""

    def reopen(self, folder: Path, frames: LayerFrames) -> AnnotationSession:
        """Open a saved project on frames that it takes over."""

    def copy(self, session: AnnotationSession, target: Path, on_end: Callable[[BaseException | None], None]) -> None:
        """Copy the project of a session to ``target`` in the background; ``on_end`` gets None or an error."""

    def in_background(self, action: Callable[[], None], on_end: Callable[[BaseException | None], None]) -> None:
        """Do something lengthy in a worker; ``on_end`` gets None or an error, in Qt's thread."""

    def choose_model(self, model: str, device: str) -> None:
        """Use this model from the next run on."""

    def close(self) -> None:
        """End what runs in the background."""


class Desks(QObject):
    """Opens a desk for an image when it is first asked about, and closes it with the image.

    napari hands proxies of layers to plugins: equal to the layers, not identical, so layers are compared by ``==``.

    Parameters
    ----------
    viewer : ViewerModel
        Where the images are.
    sessions : Sessions
        Makes and reopens sessions.
    corrections : Corrections
        What the keys on our layers do.
    parent : QObject, optional
        Owner.
    """

    said = Signal(str, bool)
    """A sentence for the message line, and whether it tells of an error."""
    worked = Signal()
    """A run has begun, come on or ended."""
    tracks_changed = Signal()
    looked_different = Signal()

    def __init__(
        self, viewer: ViewerModel, sessions: Sessions, corrections: Corrections, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._sessions = sessions
        self._corrections = corrections
        self._desks: dict[Image, Desk] = {}

    @property
    def images(self) -> list[Image]:
        """The image layers of the viewer, oldest first."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def of(self, image: Image | None) -> Desk | None:
        """Give the desk of an image; None where nothing was asked yet."""
        return None if image is None else self._desks.get(image)

    @property
    def all(self) -> tuple[Desk, ...]:
        """The desk of every image of which something was asked."""
        return tuple(self._desks.values())

    def find(self, layer: object) -> tuple[Desk, Track] | None:
        """Give desk and track of a layer; None for layers that are not, or no longer, ours."""
        track_id = layers.track_id_of(layer)
        for desk in self._desks.values():
            if track_id is not None and desk.layer_of(track_id) == layer:
                return desk, desk.session.track(track_id)
        return None

    def owner_of(self, layer: Labels) -> tuple[Desk, Track]:
        """Give desk and track of one of our layers, to do something with them.

        Raises
        ------
        InputError
            When the layer is not ours, or its session is at work in the background.
        """
        owner = self.find(layer)
        if owner is None:
            raise InputError(f"The layer must belong to a query; got '{layer.name}'; choose a query in the list.")
        owner[0].check_idle()
        return owner

    def open_for_run(self, image: Image) -> Desk:
        """Give the desk of an image, opened where there is none, with frames as they look now.

        An image with several planes is not followed itself, but a layer with the plane in view.

        Raises
        ------
        VirstError
            When the image cannot be read or the session's folder not be made.
        """
        if layers.needs_plane(image):
            image = self._plane_of(image, planes.plane_in_view(self._viewer.dims.point, image))
        desk = self._desks.get(image)
        if desk is None:
            return self._open(image, partial(self._sessions.start, name=image.name))
        desk.check_idle()
        if not desk.session.busy:
            desk.frames.look_again()
        return desk

    def open_project(self, folder: Path) -> Desk:
        """Go on with a project; its video is an image of its shape, else the file it was made from.

        Raises
        ------
        ProjectError
            When there is no project, or its video is neither open nor to be found.
        """
        video = ProjectFolder(folder).load().video
        image = self._image_for(video)
        desk = self._open(image, partial(self._sessions.reopen, folder))
        for notice in desk.session.opening_notices:
            self.said.emit(notice, False)
        return desk

    def take_up_again(self) -> list[Desk]:
        """Reopen the sessions whose layers are still in the viewer although the dock was closed meanwhile.

        Raises
        ------
        ProjectError
            When a session's folder is gone; its layers stay as they are.
        """
        left = [(layers.session_folder_of(layer), layer) for layer in self._viewer.layers]
        folders = dict.fromkeys(folder for folder, _ in left if folder is not None)
        return [self._replace([layer for one, layer in left if one == folder], folder) for folder in folders]

    def _replace(self, old_layers: list[Labels], folder: Path) -> Desk:
        desk = self.open_project(folder)
        for old in old_layers:
            self._viewer.layers.remove(old)
            new = desk.layer_of(str(layers.track_id_of(old)))
            if new is not None:
                new.name = old.name
        return desk

    def forget(self, layer: object) -> None:
        """Take notice that a layer was removed from the viewer."""
        desk = self._desks.pop(layer, None) if isinstance(layer, Image) else None
        if desk is not None:
            desk.close()
            self.said.emit(sentences.kept(desk.image.name, str(desk.session.folder)), False)
        for other in self._desks.values():
            other.forget_layer(layer)

    def close(self) -> None:
        """Close every desk."""
        desks, self._desks = self._desks, {}
        for desk in desks.values():
            desk.close()

    def _image_for(self, video: VideoRecord) -> Image:
        fitting = [image for image in self.images if layers.video_shape(image) == video.shape]
        named = next((image for image in fitting if image.name == video.name), None)
        volume = None if named is not None else planes.volume_called(self.images, video.name, video.shape)
        if volume is not None:
            return self._plane_of(*volume)
        if fitting:
            return named or fitting[-1]
        if video.source is None:
            num_frames, height, width = video.shape
            raise ProjectError(
                f"The video of this project must be open in napari; got no image of {num_frames} frames of "
                f"{width}×{height}; open “{video.name}”, then the project again."
            )
        data, arguments = layers.movie_arguments(video.source)
        self._viewer.add_image(data, **arguments)
        return self.images[-1]

    def _plane_of(self, volume: Image, plane: tuple[int, ...]) -> Image:
        image = planes.find_plane(self.images, volume, plane)
        if image is None:
            data, arguments = planes.plane_arguments(volume, plane)
            self._viewer.add_image(data, **arguments)
            volume.visible = volume.visible and planes.covers(volume)
            image = self.images[-1]
        self.said.emit(sentences.follows_plane(volume.name, planes.words_for(image)), False)
        return image

    def _open(self, image: Image, make_session: Callable[[LayerFrames], AnnotationSession]) -> Desk:
        frames = LayerFrames(image)
        session = make_session(frames)
        self._put_away(image)
        desk = self._desks[image] = Desk(
            self._viewer, image, frames, session, self._corrections, self._sessions.in_background, parent=self
        )
        desk.said.connect(self.said)
        desk.progressed.connect(self.worked)
        desk.busy_changed.connect(self.worked)
        desk.tracks_changed.connect(self.tracks_changed)
        desk.looked_different.connect(self.looked_different)
        return desk

    def _put_away(self, image: Image) -> None:
        desk = self._desks.pop(image, None)
        if desk is None:
            return
        old_layers = desk.layers
        desk.close()
        for layer in old_layers:
            self._viewer.layers.remove(layer)
        self.said.emit(f"The queries before are kept in {desk.session.folder}.", False)
