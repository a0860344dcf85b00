"""What each room wakes when it is opened, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "napari", "qtpy", "PySide6", "PyQt6", "magicgui")


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "napari_virst",
        "napari_virst.io.video",
        "napari_virst.session.session",
        "napari_virst.engine.protocol",
        "napari_virst.engine.runner",
        "napari_virst.evaluation.clips",
        "napari_virst.evaluation.metrics",
        "napari_virst.evaluation.run",
        "napari_virst.io.datasets",
        "napari_virst.io.exporting",
        "napari_virst.cli.main",
    ],
)
def test_room_opens_without_torch_and_without_qt(module):
    assert loaded_by(module) == set()


@pytest.mark.parametrize(
    "module", ["napari_virst.model.virst", "napari_virst.engine.predictor", "napari_virst.training.loop"]
)
def test_torch_rooms_open_without_a_window(module):
    assert loaded_by(module) <= {"torch", "transformers"}


def test_public_names_are_there():
    import napari_virst

    for name in napari_virst.__all__:
        assert getattr(napari_virst, name) is not None
