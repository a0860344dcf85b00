"""Charts of scores, drawn with Pillow: pictures to look at, not figures for a paper."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    _Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito's palette, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#999999", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_BAR_PX, _GAP_PX, _HEIGHT_PX = 22, 26, 360
_LEFT_PX, _TOP_PX, _BOTTOM_PX = 56, 56, 40
_STEP_PX = 40
_FONT_PX = 14


def check_picture(path: Path) -> None:
    """Tell early that a plot cannot be written, before hours of work.

    Raises
    ------
    InputError
        When the ending is not one of a picture, or the folder is not there.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if path.suffix.lower() not in endings or not path.absolute().parent.is_dir():
        raise InputError(
            f'A plot must be a picture file in a folder that exists, e.g. plot.png; got "{path}"; choose another name.'
        )


def write_bars(path: Path, title: str, series: Sequence[str], groups: Mapping[str, Sequence[float]]) -> None:
    """Write grouped bars of scores 0…1 as a picture.

    Parameters
    ----------
    path
        Where; the ending says which kind of picture, e.g. ``.png``.
    title
        What is shown, above the bars.
    series
        What each bar of a group stands for.
    groups
        Name of a group to one score per series; NaN leaves the place of a bar empty.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    check_picture(path)
    font = ImageFont.load_default(_FONT_PX)
    group_px = max(_BAR_PX * len(series), *(math.ceil(font.getlength(name)) for name in groups)) + _GAP_PX
    legend_px = sum(font.getlength(name) + 32 for name in series)
    width = _LEFT_PX + max(group_px * len(groups), math.ceil(legend_px)) + _GAP_PX
    picture = Image.new("RGB", (width, _TOP_PX + _HEIGHT_PX + _BOTTOM_PX), "white")
    draw = ImageDraw.Draw(picture)
    _draw_frame(draw, font, width, title, series)
    for number, (name, scores) in enumerate(groups.items()):
        _draw_group(draw, font, _LEFT_PX + number * group_px, group_px, name, scores)
    _save(picture, path)


def write_lines(path: Path, title: str, series: Mapping[str, Sequence[float]]) -> None:
    """Write curves of scores 0…1 over 0, 1, 2, … as a picture.

    Parameters
    ----------
    path
        Where; the ending says which kind of picture, e.g. ``.png``.
    title
        What is shown, above the curves.
    series
        Name of a curve to its scores; NaN leaves a gap.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    check_picture(path)
    font = ImageFont.load_default(_FONT_PX)
    num_steps = max((len(scores) for scores in series.values()), default=0)
    legend_px = sum(font.getlength(name) + 32 for name in series)
    width = _LEFT_PX + max(_STEP_PX * num_steps, math.ceil(legend_px)) + _GAP_PX
    picture = Image.new("RGB", (width, _TOP_PX + _HEIGHT_PX + _BOTTOM_PX), "white")
    draw = ImageDraw.Draw(picture)
    _draw_frame(draw, font, width, title, tuple(series))
    for step in range(num_steps):
        draw.text((_x(step), _TOP_PX + _HEIGHT_PX + 8), str(step), fill="black", font=font, anchor="ma")
    for scores, colour in zip(series.values(), _COLOURS, strict=False):
        points = [(_x(step), _y(score)) for step, score in enumerate(scores) if not math.isnan(score)]
        draw.line(points, fill=colour, width=2)
    _save(picture, path)


def _save(picture: Image.Image, path: Path) -> None:
    try:
        picture.save(path)
    except OSError as error:
        raise InputError(
            f'A plot must be written to a file; got {error} for "{path}"; choose another place.'
        ) from error


def _x(step: int) -> float:
    return _LEFT_PX + _STEP_PX * (step + 0.5)


def _y(score: float) -> float:
    return _TOP_PX + _HEIGHT_PX * (1 - min(max(score, 0.0), 1.0))


def _draw_frame(draw: ImageDraw.ImageDraw, font: _Font, width: int, title: str, series: Sequence[str]) -> None:
    draw.text((_LEFT_PX, 8), title, fill="black", font=font)
    left = float(_LEFT_PX)
    for name, colour in zip(series, _COLOURS, strict=False):
        draw.rectangle((left, 32, left + 12, 44), fill=colour)
        draw.text((left + 18, 30), name, fill="black", font=font)
        left += font.getlength(name) + 32
    for tenth in range(0, 11, 2):
        draw.line((_LEFT_PX, _y(tenth / 10), width - _GAP_PX, _y(tenth / 10)), fill="#dddddd" if tenth else "black")
        draw.text((_LEFT_PX - 8, _y(tenth / 10)), f"{tenth / 10:.1f}", fill="black", font=font, anchor="rm")


def _draw_group(
    draw: ImageDraw.ImageDraw, font: _Font, left: int, group_px: int, name: str, scores: Sequence[float]
) -> None:
    start = left + (group_px - _BAR_PX * len(scores)) / 2
    for place, (score, colour) in enumerate(zip(scores, _COLOURS, strict=False)):
        if not math.isnan(score):
            x = start + place * _BAR_PX
            draw.rectangle((x, _y(score), x + _BAR_PX - 3, _y(0)), fill=colour)
    draw.text((left + group_px / 2, _TOP_PX + _HEIGHT_PX + 8), name, fill="black", font=font, anchor="ma")
