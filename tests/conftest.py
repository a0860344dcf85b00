"""What every test may use, and what no test may leave behind."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests run in several processes; one thread each is faster than many that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests are collected without packages (importlib mode); the shared drawings are imported as ``fixtures.<theme>``.
sys.path.append(str(Path(__file__).parent))

# pytest --hypothesis-profile=thorough: for a change of rules, not for every run.
settings.register_profile(
    "thorough",
    max_examples=1000,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

pytest_plugins = ["fixtures.frames", "fixtures.benchmarks", "fixtures.models", "fixtures.segmenter", "fixtures.study"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-dir", default=None, help="folder of one recorded run of the reference (tests/parity)")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_worker_left() -> Iterator[None]:
    """No worker thread of ours outlives a test."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("napari-virst")]
    assert not left, f"worker threads still alive: {left}; close the runner"
