"""Which axis of an array is time, channel, depth, height, width and colour, and how one frame is cut out of it.

Letters: T frames, C channels, Z planes, Y rows, X columns, S samples of a colour (3 = RGB, 4 = RGBA).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_virst.errors import VideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERS = "TCZYXS"
ZChoice = int | Literal["max", "mean"] | None

_COLOUR_SIZES = (3, 4)
_GUESSES = {4: ("TCYX", "TZYX", "TYXC"), 5: ("TCZYX", "TZCYX"), 6: ("TCZYXS",)}


@dataclass(frozen=True)
class Layout:
    """How the frames of a video lie in an array, and what of each is shown."""

    axes: str
    """One letter per axis of the array, as settled; letters outside TCZYXS only on axes of size 1."""
    shape: tuple[int, ...]
    """Size of each axis."""
    channel: int | None = None
    """The channel shown; None where there is no channel axis."""
    z: ZChoice = None
    """The plane shown or how planes are projected; None where there is no Z axis."""
    notes: tuple[str, ...] = ()
    """What was chosen for the user, one sentence each."""

    def size(self, letter: str) -> int:
        """Size of the axis ``letter``; 1 where there is none."""
        return self.shape[self.axes.index(letter)] if letter in self.axes else 1

    @property
    def is_rgb(self) -> bool:
        """Whether frames are (H, W, 3) instead of (H, W)."""
        return "S" in self.axes

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3) for colour."""
        return (self.size("Y"), self.size("X"), 3) if self.is_rgb else (self.size("Y"), self.size("X"))

    @property
    def choices(self) -> tuple[str, int | None, ZChoice]:
        """What decides which pixels are shown: axes, channel, plane."""
        return self.axes, self.channel, self.z

    def frame_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Type of the frames of an array of ``dtype``: native byte order, bool as uint8."""
        return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")

    def index(self, frame: int) -> tuple[int | slice, ...]:
        """What to read of the array for frame ``frame``: a number or a full slice for each axis."""
        chosen: dict[str, int | None] = {"T": frame, "C": self.channel, "Y": None, "X": None, "S": None}
        chosen["Z"] = self.z if isinstance(self.z, int) else None
        numbers = [chosen.get(letter, 0) for letter in self.axes]
        return tuple(slice(None) if number is None else number for number in numbers)

    def arrange(self, block: NDArray[Any]) -> NDArray[Any]:
        """Turn what :meth:`index` reads into a frame.

        Parameters
        ----------
        block
            The sliced axes in the array's own order, any byte order.

        Returns
        -------
        (H, W) or (H, W, 3), native byte order; alpha dropped, planes projected, bool as uint8 0 and 1.
        """
        left = [letter for letter, item in zip(self.axes, self.index(0), strict=True) if isinstance(item, slice)]
        frame = np.transpose(block, [left.index(letter) for letter in "ZYXS" if letter in left])
        if "Z" in left:
            frame = _project(frame, "max" if self.z == "max" else "mean")
        if self.is_rgb:
            frame = frame[..., :3]
        return frame.astype(self.frame_dtype(frame.dtype), copy=False)


def find_layout(
    shape: tuple[int, ...],
    found: str | None,
    *,
    axes: str | None = None,
    channel: int | None = None,
    z: ZChoice = None,
) -> Layout:
    """Settle where the frames lie, from what the user says, else from what the file says, else from the shape.

    Parameters
    ----------
    shape
        Size of each axis of the array.
    found
        The letters that the file gives, any case; letters outside TCZYXS mean "unknown". None where it gives none.
    axes, channel, z
        The user's choice, as in :func:`napari_virst.io.video.open_video`.

    Raises
    ------
    VideoError
        When the axes cannot be told or a choice is impossible; the message says which ``axes=`` to give.
    """
    if axes is not None:
        letters = _checked(axes, shape)
    elif found is not None:
        letters = _resolved(found, shape)
    else:
        letters = _guessed(shape)
    if not all(shape):
        raise VideoError(f"A video must have at least one frame and one pixel; got an array of shape {shape}.")
    notes: list[str] = []
    if axes is None and letters == "SYX":  # what tifffile writes for three unnamed frames, too
        notes.append('The file is read as one RGB image; give axes="TYX" if its planes are frames.')
    letters = _settle_colour(letters, shape, channel)
    letters = _settle_time(letters, shape, z, notes)
    channel = _settle_channel(letters, shape, channel, notes)
    z = _settle_z(letters, shape, z, notes)
    return Layout(letters, shape, channel, z, tuple(notes))


def _checked(axes: str, shape: tuple[int, ...]) -> str:
    letters = "".join(axes.split()).upper()
    is_good = len(letters) == len(shape) and len(set(letters)) == len(letters) and set(letters) <= set(LETTERS)
    if not is_good or not {"Y", "X"} <= set(letters):
        raise VideoError(
            f"axes must name each of the {len(shape)} axes of shape {shape} once, with letters of {LETTERS}, Y and X "
            f'among them; got "{axes}"; {_suggestion(shape)}'
        )
    if "S" in letters and shape[letters.index("S")] not in _COLOUR_SIZES:
        raise VideoError(
            f"The axis S must have 3 or 4 samples (RGB or RGBA); got {shape[letters.index('S')]} in axes "
            f'"{axes}" of shape {shape}; call it C if these are channels.'
        )
    return letters


def _resolved(found: str, shape: tuple[int, ...]) -> str:
    letters = list(found.upper())
    for position, letter in enumerate(letters):
        if letter == "S" and shape[position] not in _COLOUR_SIZES:
            letters[position] = "Q" if "C" in letters else "C"
    unknown = [i for i, letter in enumerate(letters) if letter not in LETTERS and shape[i] > 1]
    if len(unknown) == 1 and "T" not in letters:
        letters[unknown.pop()] = "T"
    known = [letter for letter in letters if letter in LETTERS]
    if unknown or len(set(known)) < len(known) or not {"Y", "X"} <= set(known):
        return _guessed(shape)
    return "".join(letters)


def _guessed(shape: tuple[int, ...]) -> str:
    is_colour = len(shape) >= 3 and shape[-1] in _COLOUR_SIZES and min(shape[-3:-1]) > max(_COLOUR_SIZES)
    by_ndim = {3: "YXS", 4: "TYXS"} if is_colour else {2: "YX", 3: "TYX"}
    if len(shape) not in by_ndim:
        raise _unknown_axes(shape)
    return by_ndim[len(shape)]


def _unknown_axes(shape: tuple[int, ...]) -> VideoError:
    if len(shape) < 2:
        return VideoError(
            f"A video must have at least two axes, rows and columns; got shape {shape}; give (T, H, W) or (T, H, W, 3)."
        )
    return VideoError(f"The axes of a video must be known; got shape {shape} without names; {_suggestion(shape)}")


def _suggestion(shape: tuple[int, ...]) -> str:
    if len(shape) <= 3:
        guesses: tuple[str, ...] = {2: ("YX",), 3: ("TYX", "YXS")}.get(len(shape), ())
    else:
        guesses = ("TYXS",) if len(shape) == 4 and shape[-1] in _COLOUR_SIZES else _GUESSES.get(len(shape), ())
    if not guesses:
        return "cut it down to (T, H, W) or (T, H, W, 3) first."
    return "give " + " or ".join(f'axes="{guess}"' for guess in guesses) + "."


def _settle_colour(letters: str, shape: tuple[int, ...], channel: int | None) -> str:
    """Samples become channels when one is asked for; three or four trailing channels are a colour otherwise."""
    if "S" in letters and "C" not in letters and channel is not None:
        return letters.replace("S", "C")
    if letters.endswith("C") and shape[-1] in _COLOUR_SIZES and channel is None:
        return letters[:-1] + "S"
    return letters


def _settle_time(letters: str, shape: tuple[int, ...], z: ZChoice, notes: list[str]) -> str:
    if "T" in letters or z is not None or "Z" not in letters:
        return letters
    num_planes = shape[letters.index("Z")]
    if num_planes > 1:
        notes.append(f"There is no time axis: the {num_planes} planes of Z are taken as frames.")
    return letters.replace("Z", "T")


def _settle_channel(letters: str, shape: tuple[int, ...], channel: int | None, notes: list[str]) -> int | None:
    num_channels = shape[letters.index("C")] if "C" in letters else 1
    if channel is not None and not 0 <= channel < num_channels:
        raise VideoError(
            f"channel must be 0…{num_channels - 1}, the video has {num_channels}; got {channel}; give one of these."
            if num_channels > 1
            else f"channel must be one of several, the video has only one; got {channel}; leave it out."
        )
    if "C" not in letters:
        return None
    if channel is None and num_channels > 1:
        notes.append(f"Channel 0 of {num_channels} is shown; give channel= for another.")
    return channel or 0


def _settle_z(letters: str, shape: tuple[int, ...], z: ZChoice, notes: list[str]) -> ZChoice:
    num_planes = shape[letters.index("Z")] if "Z" in letters else 1
    if "Z" not in letters:
        if z is not None and z != 0:
            raise VideoError(f"z must be a plane of a video with a Z axis, this one has none; got {z!r}; leave it out.")
        return None
    if not (z is None or z in ("max", "mean") or (isinstance(z, int) and 0 <= z < num_planes)):
        raise VideoError(f'z must be a plane 0…{num_planes - 1}, "max" or "mean"; got {z!r}; give one of these.')
    if z is None and num_planes > 1:
        notes.append(
            f"Plane {num_planes // 2} of {num_planes}, the middle one, is shown; "
            'give z= for another, or z="max" or z="mean" to project.'
        )
    return num_planes // 2 if z is None else z


def _project(stack: NDArray[Any], how: Literal["max", "mean"]) -> NDArray[Any]:
    if how == "max":
        return np.asarray(stack.max(axis=0))
    mean = stack.mean(axis=0, dtype=np.float64)
    return np.asarray(np.rint(mean) if stack.dtype.kind in "uib" else mean, stack.dtype)
