"""What the command line says."""

from __future__ import annotations

import pytest

from napari_virst.cli.report import as_options


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('give z= for another, or z="max" to project', "give --z for another, or --z max to project"),
        ('give axes="TCZYX" or axes="TZCYX".', "give --axes TCZYX or --axes TZCYX."),
        ("Channel 0 of 2 is shown; give channel= for another.", "Channel 0 of 2 is shown; give --channel for another."),
        ("a file named blitz=3.tif", "a file named blitz=3.tif"),
    ],
    ids=["plane", "axes", "channel", "no-argument"],
)
def test_arguments_are_named_as_options(said, expected):
    assert as_options(said) == expected
