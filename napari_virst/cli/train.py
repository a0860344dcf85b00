"""``napari-virst train``."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING

import typer

from napari_virst.cli.folders import check_folder
from napari_virst.cli.report import STDERR, note
from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_virst.training.devices import Devices
    from napari_virst.training.lessons import LessonSource


@dataclass(frozen=True)
class TrainingRequest:
    """What was typed."""

    recipe: str
    out: Path
    resume: bool = False
    start_from: str | None = None
    data: Path | None = None
    dataset: str = "project"
    split: str = "train"
    device: str = "auto"
    precision: str = "auto"
    export: Path | None = None
    num_threads: int | None = None


def run_training(request: TrainingRequest) -> None:
    """Begin or go on with a run, and write a model folder where one is asked for.

    Raises
    ------
    InputError
        When there is no such recipe, or the folder holds a run that is not to be resumed.
    """
    _check_folder(request)
    with STDERR.status("waking torch"):
        import torch

        from napari_virst.training.recipes import RECIPES, open_run
    if request.recipe not in RECIPES:
        raise InputError(f'The recipe must be one of {", ".join(sorted(RECIPES))}; got "{request.recipe}"; choose one.')
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if request.num_threads:
        torch.set_num_threads(request.num_threads)
    trainer = open_run(
        RECIPES[request.recipe](),
        request.out,
        start_from=request.start_from,
        source=_open_data(request),
        devices=_open_devices(request.device),
        precision=request.precision,  # type: ignore[arg-type]  # checked where it is used
    )
    note(f"{request.recipe}: step {trainer.step} of {trainer.recipe.num_steps}")
    with stopped_by_ctrl_c(trainer.devices.num_processes == 1) as should_stop:
        trainer.train(should_stop)
    if should_stop():
        note(f"Stopped after step {trainer.step}; the same command with --resume goes on.")
        raise typer.Exit(130)
    if request.export is not None and trainer.is_first:
        trainer.export(request.export)
        note(f"The model is in {request.export}.")


@contextmanager
def stopped_by_ctrl_c(is_wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl+C end training after the step that is being taken; the second one ends it at once.

    Yields what says whether it was pressed. Of several processes each would stop after a step of its own: there
    ``is_wanted`` is False, and the last checkpoint is what remains.
    """
    is_pressed = Event()
    previous = signal.getsignal(signal.SIGINT)

    def press(*_: object) -> None:
        """Note the first Ctrl+C, and leave the next one to whoever had it before."""
        is_pressed.set()
        signal.signal(signal.SIGINT, previous)

    if is_wanted and current_thread() is main_thread():
        signal.signal(signal.SIGINT, press)
    try:
        yield is_pressed.is_set
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, previous)


def _check_folder(request: TrainingRequest) -> None:
    check_folder(request.out, "--out")
    if request.export is not None:
        check_folder(request.export, "--export")
    if (request.out / "state.pt").exists() and not request.resume:
        raise InputError(
            f'The folder of a new run must hold no other; "{request.out}" does; '
            "add --resume to go on with that run, or choose another folder."
        )


def _open_data(request: TrainingRequest) -> LessonSource | None:
    if request.data is None:
        return None
    from napari_virst.training.annotated import find_annotated
    from napari_virst.training.video_lessons import VideoLessons

    videos = find_annotated(request.data, request.dataset, request.split)
    note(f"Videos to learn from: {len(videos)}; queries: {sum(len(video.queries) for video in videos)}")
    return VideoLessons(videos)


def _open_devices(device: str) -> Devices:
    """Several where accelerate or torchrun started several processes, else the one that was asked for."""
    from napari_virst.engine.loading import pick_device
    from napari_virst.training.devices import OneDevice, SeveralDevices

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return SeveralDevices(cpu=device == "cpu")
    return OneDevice(pick_device(device))
