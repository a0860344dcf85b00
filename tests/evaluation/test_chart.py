from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageColor

from napari_virst.errors import InputError
from napari_virst.evaluation.chart import write_bars, write_lines

BLUE, ORANGE = (ImageColor.getrgb(name) for name in ("#0072B2", "#E69F00"))


def column_heights(path, colour):
    """Number of pixels of a colour in each column below the legend, of the columns that have any."""
    with Image.open(path) as picture:
        pixels = np.array(picture)[56:]
    heights = (pixels == colour).all(axis=2).sum(axis=0)
    return heights[heights > 0]


def test_bars_are_as_high_as_their_scores(tmp_path):
    path = tmp_path / "bars.png"
    write_bars(path, "title", ("ours", "copy"), {"a clip": (1.0, 0.5)})
    assert np.median(column_heights(path, BLUE)) == pytest.approx(2 * np.median(column_heights(path, ORANGE)), abs=4)


def test_what_was_not_measured_has_no_bar(tmp_path):
    path = tmp_path / "bars.png"
    write_bars(path, "title", ("ours", "flow"), {"a": (0.5, math.nan)})
    assert column_heights(path, ORANGE).size == 0


@pytest.mark.parametrize("name", ["bars.xyz", "bars", "nowhere/bars.png"], ids=["ending", "no-ending", "no-folder"])
def test_place_where_no_picture_can_be_is_explained(tmp_path, name):
    with pytest.raises(InputError, match="picture file"):
        write_bars(tmp_path / name, "title", ("ours",), {"a": (0.5,)})


def test_curves_are_drawn_in_the_colours_of_their_legend(tmp_path):
    write_lines(tmp_path / "lines.png", "J&F", {"ours": [0.2, 0.9, 0.9], "theirs": [0.2, float("nan"), 0.5]})
    with Image.open(tmp_path / "lines.png") as picture:
        colours = {colour for _, colour in picture.getcolors(maxcolors=100_000)}
    assert {(0, 0x72, 0xB2), (0xE6, 0x9F, 0)} <= colours


def test_no_curve_at_all_is_a_picture_too(tmp_path):
    write_lines(tmp_path / "lines.png", "nothing", {})
    assert (tmp_path / "lines.png").is_file()
