"""Which recorded runs the tests see; the option ``--parity-dir`` is in ``tests/conftest.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.recorded_runs import PREFIXES, RecordedRun
from fixtures.recordings import PEFT_PREFIX, SHARED_PARITY, SHIPPED_PARITY, Recording, recording_of

MISSING = "the recorded reference numbers are not beside the repository (shared/parity); give --parity-dir"


def recordings_of(config: pytest.Config) -> tuple[list[Recording], list[Recording]]:
    """The runs to look at, at the fixture's own sizes and at official geometry.

    ``--parity-dir`` alone, or what ships with the tests and what lies beside the repository.
    """
    given = config.getoption("--parity-dir", default=None)
    if given and not (Path(given) / "outputs.npz").exists():
        raise pytest.UsageError(f"--parity-dir must be the folder of a recorded run; {given} has no outputs.npz")
    names = ("dev", "dev_long", "dev_native")
    folders = [Path(given)] if given else [SHIPPED_PARITY, *(SHARED_PARITY / name for name in names)]
    folders = [folder for folder in folders if (folder / "outputs.npz").exists()]
    has_sizes = {folder: (folder / "config.json").exists() for folder in folders}
    small = [recording_of(folder, folder) for folder in folders if has_sizes[folder]]
    native = [recording_of(folder, folder.parent / "dev") for folder in folders if not has_sizes[folder]]
    return small, native


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill in the recorded runs.

    ``recording``: at the fixture's own sizes; ``native_recording``: at official geometry; ``any_recording``: both;
    ``run``: every case of every one, with and without rounded memory.
    """
    small, native = recordings_of(metafunc.config)
    runs = [RecordedRun(recording, prefix) for recording in [*small, *native] for prefix in PREFIXES]
    cases = {
        "recording": small,
        "native_recording": native,
        "any_recording": [*small, *native],
        "run": [run for run in runs if "run" in metafunc.fixturenames and run.is_recorded],
    }
    # Attention over 4096 cells takes a minute on one idle core, and four on a busy one.
    slow = {id(case): pytest.mark.timeout(900) for case in [*native, *(r for r in runs if r.recording in native)]}
    for fixture in cases.keys() & set(metafunc.fixturenames):
        absent = pytest.param(None, id="absent", marks=pytest.mark.skip(reason=MISSING))
        params = [pytest.param(c, id=c.name, marks=slow.get(id(c), ())) for c in cases[fixture]]
        metafunc.parametrize(fixture, params or [absent], scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the stages in the order of their files, which pytest would group by recording."""
    places = [i for i, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    in_order = sorted((items[i] for i in places), key=lambda item: item.path.name)
    for i, item in zip(places, in_order, strict=True):
        items[i] = item


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def table(name: str) -> Path:
    """One of the tables at published sizes."""
    return SHIPPED_PARITY / name


@pytest.fixture(scope="session")
def prompt_cases() -> dict:
    """Questions, answers and ids that the reference's tokenizer made of expressions."""
    return json.loads(table("prompt_cases.json").read_text())


@pytest.fixture(scope="session")
def official_tables() -> dict:
    """Choices of frames and anchors by video length."""
    return json.loads(table("official_tables.json").read_text())


@pytest.fixture(scope="session")
def official_constants() -> dict[str, np.ndarray]:
    """Slices of the fixed tables at published sizes."""
    return dict(np.load(table("official_constants.npz")))


@pytest.fixture(scope="session")
def official_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published checkpoint, without the wrapper's prefix."""
    rows = [row.split("\t") for row in table("official_keys.tsv").read_text().splitlines()]
    return {
        row[0].removeprefix(PEFT_PREFIX): tuple(int(n) for n in row[1].split(",") if n)
        for row in rows
        if row[0].startswith(PEFT_PREFIX)
    }


@pytest.fixture(scope="session")
def official_config() -> dict:
    """Published sizes."""
    return json.loads(table("official_config.json").read_text())
