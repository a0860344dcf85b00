from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from napari_virst.gui import warming

WINDOW_THREAD = """
import gc, sys, threading
from napari_virst.gui import warming
collected = []
gc.callbacks.append(lambda phase, info: collected.append(info) if (phase, info["generation"]) == ("start", 2) else None)
names = []
whole = warming._map_torch
warming._map_torch = lambda: (names.append("torch" in sys.modules), whole())
warming.import_predictor()
print(names, "napari_virst.engine.predictor" in sys.modules, len(collected), gc.isenabled())
"""


def test_torch_is_mapped_first_and_no_full_collection_stops_the_window() -> None:
    answer = subprocess.run([sys.executable, "-c", WINDOW_THREAD], capture_output=True, text=True, check=True)
    mapped_before, is_there, num_collections, is_on = answer.stdout.strip().splitlines()[-1].rsplit(" ", 3)
    assert (mapped_before, is_there, is_on) == ("[False]", "True", "True")
    assert int(num_collections) <= 1


@pytest.mark.parametrize("was_on", [True, False], ids=["on", "off"])
def test_collection_is_afterwards_as_it_was_and_nothing_is_kept_from_it(was_on: bool) -> None:
    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        with warming.without_collections():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
        assert gc.get_freeze_count() == 0  # 375 before, in Python 3.12
    finally:
        (gc.enable if before else gc.disable)()


def test_what_a_program_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        num_frozen = gc.get_freeze_count()
        with warming.without_collections():
            pass
        assert gc.get_freeze_count() > 0.9 * num_frozen  # some have been thrown away meanwhile
    finally:
        gc.unfreeze()


def test_model_is_woken_in_another_thread() -> None:
    threads: list[threading.Thread] = []
    warming.warm_up(lambda: threads.append(threading.current_thread())).join(60)
    assert threads
    assert threads[0] is not threading.main_thread()


def test_what_goes_wrong_is_left_for_the_first_run_to_say() -> None:
    def fail() -> None:
        raise OSError("gone")

    warming.warm_up(fail).join(60)
