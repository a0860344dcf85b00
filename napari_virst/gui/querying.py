"""A track's beginning by the brush, its name, and its end: between the list of queries, the viewer and the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.records import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Labels

    from napari_virst.gui.desk import Desk
    from napari_virst.gui.desks import Desks
    from napari_virst.session.session import Track


class Querying:
    """Carries out what is wished of a query as a whole.

    Every method may raise what the session raises; the presenter turns that into sentences.

    Parameters
    ----------
    desks : Desks
        The annotated images.
    say : callable
        Show a sentence.
    """

    def __init__(self, desks: Desks, say: Callable[[str], None]) -> None:
        self._desks, self._say = desks, say

    def start_painting(self, desk: Desk) -> Track:
        """Begin a track without words: an empty layer, and the brush in hand; a run follows what is painted.

        The newest track without words is taken again while it is empty.
        """
        desk.check_idle()
        track = _unpainted(desk.session.tracks) or desk.session.ask(Query("", _free_name(desk.session.tracks)))
        desk.start_painting(track)
        self._say(f"Paint “{track.query.name}” on this frame with the brush, then press Shift+S: the rest follows.")
        return track

    def rename(self, layer: Labels, name: str) -> None:
        """Call a track and its layer otherwise."""
        desk, track = self._desks.owner_of(layer)
        desk.rename(track, name)

    def remove(self, layer: Labels) -> None:
        """Take a track out of the project, and its layer out of the viewer."""
        desk, track = self._desks.owner_of(layer)
        desk.remove(track)
        self._say(f"“{track.query.name}” is removed; its masks stay in {desk.session.folder / 'masks'}.")


def _unpainted(tracks: Sequence[Track]) -> Track | None:
    newest = next((track for track in reversed(tracks) if not track.query.text), None)
    return None if newest is None or newest.masks.provenances.any() else newest


def _free_name(tracks: Sequence[Track]) -> str:
    taken = {track.query.name for track in tracks}
    names = ("object", *(f"object {number}" for number in range(2, len(taken) + 2)))
    return next(name for name in names if name not in taken)
