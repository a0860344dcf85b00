"""Finds a model and a device, with errors that say what to do."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from napari_virst.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel

BUNDLED = "compact"


def bundled_folder() -> Path:
    """Return the folder of the model that ships in the package."""
    return Path(str(files("napari_virst"))) / "weights" / BUNDLED


def pick_device(device: str = "auto") -> torch.device:
    """Return the device that ``device`` names; ``"auto"`` takes a GPU where there is one.

    Raises
    ------
    DeviceError
        When there is no such device on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f'The device must be one that this machine has; got "{device}"; choose "auto" or "cpu".'
        ) from error
    return chosen


def load_model(model: str | Path = BUNDLED) -> tuple[VirstModel, VirstProcessor, str]:
    """Load a model folder in float32: safetensors only, no code from the folder is run.

    Raises
    ------
    CheckpointError
        When the folder is missing, holds another kind of model, or its weights do not fit its configuration.
    """
    folder = bundled_folder() if str(model) == BUNDLED else Path(model).expanduser()
    _check_folder(folder)
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel

    try:
        with _no_progress_bar():
            virst, report = VirstModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        processor = VirstProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f'The model in "{folder}" cannot be loaded: {error}') from error
    wrong = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if wrong:
        raise CheckpointError(
            f'The weights in "{folder}" must fit its config.json; {len(wrong)} names do not, first {wrong[0]}; '
            "convert or download the model again."
        )
    return virst, processor, BUNDLED if str(model) == BUNDLED else folder.name


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers' own progress bar off the terminal: ours says "waking the model"."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _check_folder(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f'A model must be "compact" or a folder with a config.json; got "{folder}"; '
            "give the folder that napari-virst convert wrote."
        )
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f'"{config}" must be a JSON object; it cannot be read: {error}') from error
    if kind != "virst":
        raise CheckpointError(f'The model in "{folder}" must be of type "virst"; got "{kind}"; choose another folder.')
