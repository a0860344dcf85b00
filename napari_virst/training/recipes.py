"""Recipes are functions: what is built, and how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_virst.model.config import VirstConfig
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.virst import VirstModel
from napari_virst.training.loop import Phase, Recipe, Trainer
from napari_virst.training.scenes import vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEG, IMAGE = "[SEG]", "<image>"


def build_compact(seed: int = 0, processor: VirstProcessor | None = None) -> tuple[VirstModel, VirstProcessor]:
    """Return an untrained compact model and its processor.

    Parameters
    ----------
    seed
        Decides the start weights.
    processor
        The processor of a run that is to be resumed; its tokenizer stays, whatever words the scenes have learned
        since. Left out, the tokenizer knows the words of today's scenes.
    """
    tokenizer = build_word_tokenizer(vocabulary()) if processor is None else processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (SEG, IMAGE)}
    config = VirstConfig.compact(vocab_size=len(tokenizer), st_token_id=ids[SEG], image_token_id=ids[IMAGE])
    torch.manual_seed(seed)
    model = VirstModel(config)
    start_from_scratch(model)
    return model, processor or VirstProcessor.from_config(config, tokenizer)


def open_run(recipe: Recipe, out_dir: Path) -> Trainer:
    """Return a trainer for ``out_dir``, resumed where a run was begun there."""
    kept = out_dir / "processor"
    processor = VirstProcessor.from_pretrained(kept) if kept.is_dir() else None
    model, processor = build_compact(recipe.seed, processor)
    trainer = Trainer(model, processor, recipe, out_dir)
    processor.save_pretrained(kept)
    trainer.resume()
    return trainer


@torch.no_grad()
def start_from_scratch(model: VirstModel) -> None:
    """Give SAM 2's neck and decoder torch's default start values.

    transformers starts them at a standard deviation of 0.02, made for loading weights: signals would shrink by a
    factor of four at every layer of a decoder without pre-norm.
    """
    for part in (model.segmenter.vision_encoder.neck, model.segmenter.mask_decoder, model.segmenter.prompt_encoder):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                module.reset_parameters()


APPEARANCE_AND_PLACE = ("colour", "shape", "colour_shape", "size", "rank", "position", "plural", "absent")


def compact_cpu() -> Recipe:
    """Train the bundled model on one or two CPU cores in about two hours.

    Small pictures and what can be seen in one picture first, then larger ones, every kind of query and longer clips.
    """
    first = Phase(
        num_steps=2000,
        mix={"ground": 0.7, "follow": 0.3},
        num_frames={"ground": 4, "follow": 2},
        batch_size={"ground": 20, "follow": 12},
        size=96,
        kinds=APPEARANCE_AND_PLACE,
    )
    second = Phase(
        num_steps=2000,
        mix={"ground": 0.6, "follow": 0.35, "follow_scene": 0.05},
        num_frames={"ground": 4, "follow": 4, "follow_scene": 4},
        batch_size={"ground": 16, "follow": 6, "follow_scene": 6},
        size=128,
    )
    return Recipe("compact_cpu", (first, second))


def smoke() -> Recipe:
    """A few steps of everything, for tests."""
    phase = Phase(
        num_steps=8,
        mix={"ground": 0.5, "follow": 0.5},
        num_frames={"ground": 4, "follow": 2},
        batch_size={"ground": 2, "follow": 2},
        size=64,
    )
    return Recipe("smoke", (phase,), num_warmup_steps=2, num_decay_steps=2, checkpoint_every_steps=4)


RECIPES: dict[str, Callable[[], Recipe]] = {"compact_cpu": compact_cpu, "smoke": smoke}
