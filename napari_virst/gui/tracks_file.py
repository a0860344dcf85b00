"""Tracks layers as CSV files, which napari itself does not write."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.errors import InputError
from napari_virst.io.project import replace_file

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def write_tracks(path: str, data: ArrayLike, attributes: dict[str, Any]) -> list[str]:
    """Write a Tracks layer as a table: a line for every track and frame.

    Parameters
    ----------
    path
        Where to; what is there is replaced.
    data : array of shape (N, 4) or (N, 5)
        Track id, frame, (z,) y, x: as napari has it, in the layer's own coordinates.
    attributes
        Of the layer; ``graph`` names the parents of a track, {child: [parents]}.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    InputError
        When the file cannot be written.

    Examples
    --------
    A table begins ``track_id,t,y,x,parents``, with several parents divided by blanks.
    """
    rows = np.asarray(data, dtype=np.float64)
    graph = attributes.get("graph", {})
    parents = {int(child): " ".join(str(int(p)) for p in np.atleast_1d(of)) for child, of in graph.items()}
    text = StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["track_id", "t", *(("z",) if rows.shape[1] == 5 else ()), "y", "x", "parents"])
    for track, frame, *place in rows.tolist():
        table.writerow([int(track), int(frame), *(round(value, 4) for value in place), parents.get(int(track), "")])
    try:
        replace_file(Path(path), text.getvalue().encode())
    except OSError as error:
        raise InputError(
            f"A Tracks layer must be saved where files can be written; got {error.strerror} for {path}; choose another."
        ) from error
    return [path]
