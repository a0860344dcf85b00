"""One plane of a volume (T, …, Y, X), as a layer (T, 1, …, Y, X) at its own place in it: pure conversions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virst.gui.layers import METADATA_KEY, lazy_data, needs_plane, plane_counts, plane_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from napari.layers import Image
    from numpy.typing import NDArray

    Plane = tuple[int, ...]
    """An index for each axis between time and (y, x)."""

_MIXED = ("additive", "minimum", "multiplicative")
"""Blendings of napari in which a plane on top of its volume would be seen twice."""


def plane_in_view(point: tuple[float, ...], volume: Image) -> Plane:
    """Say which plane of a volume is seen, the nearest where the viewer is beside it.

    Parameters
    ----------
    point : tuple of float
        The viewer's position, world coordinates, one per axis of the viewer.
    volume : Image
        (T, …, Y, X).
    """
    place = np.round(_middle(point, volume))
    return tuple(np.clip(place, 0, np.subtract(plane_counts(volume), 1)).astype(int).tolist())


def name_of(volume_name: str, plane: Plane) -> str:
    """Name the layer of a plane.

    Examples
    --------
    >>> name_of("stack", (2,)), name_of("stack", (1, 4))
    ('stack · plane 2', 'stack · plane 1, 4')
    """
    return f"{volume_name} · plane {', '.join(str(index) for index in plane)}"


def plane_arguments(volume: Image, plane: Plane) -> tuple[Any, dict[str, Any]]:
    """Cut a plane out of a volume.

    Returns
    -------
    data : array of shape (T, 1, …, Y, X), or (T, 1, …, Y, X, 3|4)
        A view, or lazy; nothing is read.
    arguments : dict
        For ``viewer.add_image``: the layer looks like ``volume`` and lies where the plane lies in it.
    """
    arguments = {
        "name": name_of(volume.name, plane),
        "rgb": volume.rgb,
        "blending": volume.blending,
        "metadata": {METADATA_KEY: {"plane": plane}},
        "scale": volume.scale,
        "translate": _translate(volume, plane),
        "rotate": volume.rotate,
        "shear": volume.shear,
        "affine": volume.affine.affine_matrix,
        "units": volume.units,
        "axis_labels": volume.axis_labels,
    }
    if not volume.rgb:
        arguments |= {"contrast_limits": volume.contrast_limits, "gamma": volume.gamma, "colormap": volume.colormap}
    chosen = (slice(None), *[slice(index, index + 1) for index in plane])
    return lazy_data(volume)[chosen], arguments


def covers(volume: Image) -> bool:
    """Whether a plane of ``volume``, put on top of it, hides what lies beneath."""
    return volume.blending not in _MIXED


def find_plane(images: Iterable[Image], volume: Image, plane: Plane) -> Image | None:
    """Give the layer of a plane, where it has been cut out already and still lies in its place."""
    for image in images:
        is_alike = image.name == name_of(volume.name, plane) and image.ndim == volume.ndim and not needs_plane(image)
        if is_alike and np.allclose(image.translate, _translate(volume, plane)):
            return image
    return None


def volume_called(images: Iterable[Image], plane_name: str, shape: tuple[int, int, int]) -> tuple[Image, Plane] | None:
    """Find the volume of which a layer of this name, (T, H, W) = ``shape``, would be a plane, and say which plane."""
    for image in images:
        if needs_plane(image) and plane_shape(image) == shape:
            named = (plane for plane in np.ndindex(plane_counts(image)) if name_of(image.name, plane) == plane_name)
            plane = next(named, None)
            if plane is not None:
                return image, plane
    return None


def is_seen(point: tuple[float, ...], displayed: Collection[int], image: Image) -> bool:
    """Whether the only plane of ``image`` is the one in view.

    Parameters
    ----------
    point : tuple of float
        The viewer's position, world coordinates.
    displayed : collection of int
        The axes of the viewer that are seen whole: on them every plane is.
    image : Image
        (T, 1, …, Y, X), (T, Y, X) or (Y, X); the last two lie in every plane.
    """
    if image.ndim <= 3:
        return True
    first = len(point) - image.ndim + 1
    beside = np.flatnonzero(np.round(_middle(point, image)))
    return all(first + axis in displayed for axis in beside.tolist())


def words_for(image: Image) -> str:
    """Say which plane an image is, as "plane 2"."""
    plane = image.metadata.get(METADATA_KEY, {}).get("plane")
    return f"plane {', '.join(str(index) for index in plane)}" if plane else f"the only one of '{image.name}'"


def with_planes(tracks: NDArray[np.float64], image: Image) -> NDArray[np.float64]:
    """Put napari's tracks (N, 4) of id, frame, y and x into the axes of ``image``."""
    added = np.zeros((len(tracks), max(0, image.ndim - 3)))
    return np.hstack([tracks[:, :2], added, tracks[:, 2:]])


def _middle(point: tuple[float, ...], image: Image) -> NDArray[np.float64]:
    return np.asarray(image.world_to_data(point[-image.ndim :]), float)[1:-2]


def _translate(volume: Image, plane: Plane) -> NDArray[np.float64]:
    corner = volume.data_to_world((0, *plane, 0, 0))
    return np.asarray(volume.affine.inverse(corner), float)
