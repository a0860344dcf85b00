"""Recipes are functions: what is built, and how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_virst.model.config import VirstConfig
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.virst import VirstModel
from napari_virst.training.loop import Phase, Recipe
from napari_virst.training.scenes import vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

SEG, IMAGE = "[SEG]", "<image>"


def build_compact(seed: int = 0) -> tuple[VirstModel, VirstProcessor]:
    """Return an untrained compact model and its processor, whose tokenizer knows the words of the scenes."""
    tokenizer = build_word_tokenizer(vocabulary())
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (SEG, IMAGE)}
    config = VirstConfig.compact(vocab_size=len(tokenizer), st_token_id=ids[SEG], image_token_id=ids[IMAGE])
    torch.manual_seed(seed)
    model = VirstModel(config)
    start_from_scratch(model)
    return model, VirstProcessor.from_config(config, tokenizer)


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


def compact_cpu() -> Recipe:
    """Train the bundled model on two CPU cores in about two hours: stills-sized language first, then following."""
    first = Phase(
        num_steps=2500,
        mix={"ground": 0.75, "follow": 0.25},
        num_frames={"ground": 4, "follow": 2},
        batch_size={"ground": 16, "follow": 12},
        size=96,
    )
    second = Phase(
        num_steps=4500,
        mix={"ground": 0.55, "follow": 0.35, "follow_scene": 0.1},
        num_frames={"ground": 4, "follow": 4, "follow_scene": 4},
        batch_size={"ground": 12, "follow": 7, "follow_scene": 6},
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
