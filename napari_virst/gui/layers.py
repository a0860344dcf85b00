"""Pure conversions between napari layers and what the other rooms understand. Axis order (T, H, W) and (y, x)."""

from __future__ import annotations

import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_virst.errors import VideoError
from napari_virst.gui.plane_masks import PlaneMasks
from napari_virst.io.display import Display
from napari_virst.io.video import open_video
from napari_virst.session.masks import MaskStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_virst.records import Query

METADATA_KEY = "virst"
# Image layers: written by the reader, the sample and `planes` ("video_path", "queries", "plane"); read by
# `video_source`, `planes` and the dock.
# Labels layers: written by the desk ("track", "query", "image", "folder", "provenance"); read by `track_id_of`.

AXIS_LABELS = ("t", "y", "x")  # napari writes them beside the slider; its own would be -3, -2, -1

PALETTE = (
    (0.95, 0.45, 0.20),
    (0.20, 0.70, 0.95),
    (0.45, 0.85, 0.35),
    (0.90, 0.40, 0.75),
    (0.98, 0.82, 0.25),
    (0.60, 0.55, 0.98),
    (0.20, 0.85, 0.75),
    (0.85, 0.65, 0.50),
)
"""RGB, 0…1. The k-th query of an image has the k-th colour, in its layer and in the list of queries."""


@dataclass(frozen=True)
class VideoSource:
    """What to give to ``open_video`` for the frames of a layer."""

    data: Any
    """A path, or an array with the axes of ``axes``."""
    axes: str | None
    """TYX, TYXS, YX or YXS (S for 3 or 4 samples of a colour); None where the file knows better."""


def is_video_like(layer: object) -> bool:
    """Whether a layer is an image over time: (T, …, H, W), RGB or not."""
    return isinstance(layer, Image) and layer.ndim >= 3


def newest_video(layers: Iterable[Any]) -> Image | None:
    """Give the newest image over time; where there is none, the newest image; None without images."""
    images = [layer for layer in layers if isinstance(layer, Image)]
    videos = [layer for layer in images if is_video_like(layer)]
    return (videos or images or [None])[-1]


def needs_plane(layer: Image) -> bool:
    """Whether a layer has several planes between time and (y, x), of which one must be chosen first."""
    return math.prod(plane_counts(layer)) > 1


def plane_counts(layer: Image) -> tuple[int, ...]:
    """Give the sizes of the axes between time and (y, x), planes or channels; empty for a (T, Y, X) layer."""
    return tuple(finest(layer).shape[1 : layer.ndim - 2]) if layer.ndim > 3 else ()


def video_source(layer: Image) -> VideoSource:
    """Find the frames of a layer: the file, where our reader opened it, else the array.

    Raises
    ------
    VideoError
        When the layer has several planes.
    """
    if needs_plane(layer):
        raise VideoError(
            f"An image layer must be a video (T, Y, X) or a single image (Y, X); got planes {plane_counts(layer)} in "
            f"'{layer.name}'; choose one of them first."
        )
    path = layer.metadata.get(METADATA_KEY, {}).get("video_path")
    if path is not None and Path(path).exists():
        return VideoSource(Path(path), None)
    planes = [0] * len(plane_counts(layer))
    data = lazy_data(layer)[(slice(None), *planes)] if planes else finest(layer)
    return VideoSource(data, "TYX"[max(0, 3 - layer.ndim) :] + "S" * layer.rgb)


def video_shape(layer: Image) -> tuple[int, int, int] | None:
    """Give (T, H, W) of a layer; None where it has several planes."""
    return None if needs_plane(layer) else plane_shape(layer)


def plane_shape(layer: Image) -> tuple[int, int, int]:
    """Give (T, H, W) of each plane of a layer."""
    sizes = finest(layer).shape[: layer.ndim]
    return (1 if layer.ndim == 2 else sizes[0], *sizes[-2:])


def movie_arguments(source: str) -> tuple[Any, dict[str, Any]]:
    """Open a video for the eyes: what ``viewer.add_image`` and a reader contribution need.

    Parameters
    ----------
    source : str
        Path of anything that ``open_video`` reads.

    Returns
    -------
    data : dask array of shape (T, H, W) or (T, H, W, 3)
        One chunk per frame.
    arguments : dict
        Name, looks, and the path, so that the engine can read with a decoder of its own.

    Raises
    ------
    VideoError
        When the file cannot be opened.
    """
    video = open_video(source)
    arguments: dict[str, Any] = {
        "name": video.name,
        "rgb": video.is_rgb,
        "axis_labels": AXIS_LABELS,
        "metadata": {METADATA_KEY: {"video_path": str(Path(source).absolute())}},
    }
    if not video.is_rgb:
        arguments["contrast_limits"] = video.default_display().contrast_limits
    return video.dask, arguments


def suggested_query(layer: Image | None) -> str:
    """Give a query that fits a sample, to show as an example; empty for other layers."""
    queries = () if layer is None else layer.metadata.get(METADATA_KEY, {}).get("queries", ())
    return str(queries[0]) if queries else ""


def display_of(layer: Image) -> Display:
    """Describe how a layer looks, so that a model sees what the person sees.

    RGB layers have no colormap; napari draws them with their contrast limits and gamma too.
    """
    colors: NDArray[np.float64] | None = None
    if not layer.rgb:
        positions = np.linspace(0, 1, 256)
        colors = np.asarray(layer.colormap.map(positions), dtype=np.float64)
    low, high = layer.contrast_limits
    return Display(contrast_limits=(float(low), float(high)), colormap=colors, gamma=float(layer.gamma))


def spatial_arguments(layer: Image) -> dict[str, Any]:
    """Give the place and units of ``layer`` for one of its axes that lies on it; to (y, x) a time axis is added."""
    ndim = max(3, layer.ndim)
    num_added = ndim - layer.ndim
    arguments = {
        "scale": np.concatenate([np.ones(num_added), layer.scale]),
        "translate": np.concatenate([np.zeros(num_added), layer.translate]),
        "rotate": _embedded(layer.rotate, ndim),
        "affine": _embedded(layer.affine.affine_matrix, ndim + 1),
    }
    if not num_added:
        arguments |= {"shear": layer.shear, "units": layer.units, "axis_labels": layer.axis_labels}
    return arguments


def color_of(row: int) -> tuple[float, float, float]:
    """Give the colour of the ``row``-th query of an image, RGB 0…1."""
    return PALETTE[row % len(PALETTE)]


def label_colors(row: int) -> NDArray[np.float32]:
    """Give the colours of the label values 0, 1, 2 … of the ``row``-th query, (N, 4) RGBA 0…1; 0 is transparent."""
    instances = [(*color_of(row + shift), 1.0) for shift in range(len(PALETTE))]
    return np.array([(0.0, 0.0, 0.0, 0.0), *instances], dtype=np.float32)


def layer_name(image_name: str, query: Query) -> str:
    """Name the layer of a query: "<image> · <query>"."""
    return f"{image_name} · {query.name}"


def query_name(layer_name: str, image_name: str) -> str:
    """Give the name of a query back from that of its layer, the inverse of :func:`layer_name`, also where renamed.

    Examples
    --------
    >>> query_name("frames · the cell", "frames"), query_name("mother cell", "frames")
    ('the cell', 'mother cell')
    """
    return layer_name.removeprefix(f"{image_name} · ")


def file_of(layer: Image) -> str | None:
    """Find the file or folder that napari itself opened a layer from, so that a project can find its video again.

    Only where our readers find a video of the same shape there; of a stack napari tells the first file.
    """
    path = layer.source.path
    if path is None or needs_plane(layer):
        return None
    for place in (Path(path), Path(path).parent):
        with suppress(VideoError), open_video(place) as video:
            if tuple(video.shape) == video_shape(layer):
                return str(place.absolute())
    return None


def track_id_of(layer: object) -> str | None:
    """Say which track a layer shows; None for layers that are not ours."""
    if not isinstance(layer, Labels):
        return None
    track_id = layer.metadata.get(METADATA_KEY, {}).get("track")
    return None if track_id is None else str(track_id)


def session_folder_of(layer: object) -> Path | None:
    """Say in which folder the session of a layer lives; None for layers that are not ours, duplicates included."""
    if track_id_of(layer) is None or not isinstance(layer, Labels) or masks_of(layer) is None:
        return None
    return Path(layer.metadata[METADATA_KEY]["folder"])


def labels_data(masks: MaskStore, image: Image) -> MaskStore | PlaneMasks:
    """Give the masks of a track in the axes of ``image``, of which :func:`needs_plane` is not true."""
    return masks if image.ndim <= 3 else PlaneMasks(masks, image.ndim)


def masks_of(layer: Labels) -> MaskStore | None:
    """Give the masks that a layer shows; None for layers that are not ours, duplicates included."""
    data = layer.data.masks if isinstance(layer.data, PlaneMasks) else layer.data
    return data if isinstance(data, MaskStore) else None


def take_over(layer: Labels, masks: MaskStore, image: Image) -> int:
    """Have a layer show the masks of its track again after something put other data into it, and count changed frames.

    What was put there is written into the masks as by a person; nothing of it is kept where it does not fit.

    Raises
    ------
    MaskError
        When there are values that are no labels 0…65535.
    """
    put = layer.data
    layer.data = own = labels_data(masks, image)
    with noting_edits(masks) as edited:
        if tuple(put.shape) == tuple(own.shape):
            own[...] = np.asarray(put)
            layer.refresh()
    return len(edited)


@contextmanager
def noting_edits(masks: MaskStore) -> Iterator[set[int]]:
    """Gather the frames that a person's writes change meanwhile."""
    edited: set[int] = set()

    def note(frames: tuple[int, ...]) -> None:
        """Take notice of painted frames."""
        edited.update(frames)

    masks.edited.connect(note)
    try:
        yield edited
    finally:
        masks.edited.disconnect(note)


def frame_at(point: tuple[float, ...], layer: Image | Labels) -> int:
    """Say where the viewer is on the time axis of a (T, …, H, W) layer, in frames, also before and beyond its video.

    Parameters
    ----------
    point : tuple of float
        The viewer's position, world coordinates, one per axis of the viewer.
    layer : Image or Labels
        Layers are aligned with the last axes of the viewer.
    """
    if layer.ndim < 3:
        return 0
    return round(float(layer.world_to_data(point[-layer.ndim :])[0]))


def frame_in_view(point: tuple[float, ...], layer: Image | Labels, num_frames: int) -> int:
    """Say which frame of a (T, H, W) layer is seen: :func:`frame_at`, clipped to 0 … num_frames - 1."""
    return int(np.clip(frame_at(point, layer), 0, num_frames - 1))


def world_place_of(frame: int, layer: Labels, point: tuple[float, ...]) -> tuple[float, ...]:
    """Say where on the viewer's axes before (y, x) a frame lies: the inverse of :func:`frame_in_view`, and its plane.

    Returns
    -------
    tuple of float
        World coordinates on the axes of ``layer`` but the last two.
    """
    position = [frame, *[0.0] * (layer.ndim - 3), *layer.world_to_data(point[-layer.ndim :])[-2:]]
    return tuple(float(place) for place in layer.data_to_world(position)[:-2])


def finest(layer: Image) -> Any:  # noqa: ANN401 - numpy, dask, zarr …
    """Give the data of a layer, of the finest level where there are several."""
    return layer.data[0] if layer.multiscale else layer.data


def lazy_data(layer: Image) -> Any:  # noqa: ANN401
    """Give :func:`finest` so that a part can be taken without reading it: of zarr and HDF5 arrays it would be read."""
    data = finest(layer)
    if hasattr(data, "__array_ufunc__"):
        return data
    import dask.array as da

    num_outer = layer.ndim - 2
    return da.from_array(data, chunks=(*[1] * num_outer, *data.shape[num_outer:]), name=False)


def _embedded(matrix: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    whole = np.eye(size)
    whole[size - len(matrix) :, size - len(matrix) :] = matrix
    return whole
