"""Tracks layers as CSV files."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from napari.layers import Tracks

from napari_virst.errors import InputError
from napari_virst.gui.contributions import write_tracks

if TYPE_CHECKING:
    from pathlib import Path

DATA = [[1, 0, 4.25, 5], [1, 1, 4, 6], [2, 2, 3, 7], [3, 2, 5, 7]]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_layer_with_a_division_is_written_and_read_back(tmp_path: Path) -> None:
    layer, path = Tracks(DATA, graph={2: [1], 3: [1]}), tmp_path / "t.csv"
    assert write_tracks(str(path), *layer.as_layer_data_tuple()[:2]) == [str(path)]
    rows = read(path)
    assert [[float(row[key]) for key in ("track_id", "t", "y", "x")] for row in rows] == layer.data.tolist()
    assert [row["parents"] for row in rows] == ["", "", "1", "1"]


def test_planes_and_several_parents_have_their_columns(tmp_path: Path) -> None:
    layer, path = Tracks([[1, 0, 9, 4, 5], [2, 0, 9, 1, 1], [3, 1, 9, 2, 2]], graph={3: [1, 2]}), tmp_path / "t.csv"
    write_tracks(str(path), *layer.as_layer_data_tuple()[:2])
    assert list(read(path)[0]) == ["track_id", "t", "z", "y", "x", "parents"]
    assert read(path)[2]["parents"] == "1 2"


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose another"):
        write_tracks(str(tmp_path / "no" / "t.csv"), DATA, {})
