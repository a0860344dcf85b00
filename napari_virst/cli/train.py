"""``napari-virst train``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_virst.cli.report import STDERR, note
from napari_virst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def run_training(recipe: str, out: Path, export: Path | None, num_threads: int | None) -> None:
    """Begin or go on with a run, and write a model folder where one is asked for.

    Raises
    ------
    InputError
        When there is no such recipe.
    """
    with STDERR.status("waking torch"):
        import torch

        from napari_virst.training.recipes import RECIPES, open_run
    if recipe not in RECIPES:
        raise InputError(f'The recipe must be one of {", ".join(sorted(RECIPES))}; got "{recipe}".')
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if num_threads:
        torch.set_num_threads(num_threads)
    trainer = open_run(RECIPES[recipe](), out)
    note(f"{recipe}: step {trainer.step} of {trainer.recipe.num_steps}")
    try:
        trainer.train()
    finally:
        trainer.save()
    if export is not None:
        trainer.export(export)
        note(f"The model is in {export}.")
