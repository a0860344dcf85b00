"""Recipes are functions: what is built, and how it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_virst.model.config import VirstConfig
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.virst import VirstModel
from napari_virst.training.loop import Phase, Recipe, Trainer
from napari_virst.training.scenes import KINDS, vocabulary

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


# Standard deviation of word embeddings at the start. At the usual 0.02 the initial fusion, whose answer has a size of
# about one, drowned the words: after 1000 steps ST prompts were the same for every query (spread 4e-7).
EMBEDDING_STD = 0.5


@torch.no_grad()
def start_from_scratch(model: VirstModel) -> None:
    """Give every layer outside the convolutional encoder torch's default start values.

    transformers starts layers at a standard deviation of 0.02, made for loading weights: in a narrow network signals
    would shrink by a factor of four in every layer, and the query would not reach the mask decoder.
    """
    skip = set(model.segmenter.vision_encoder.backbone.modules()) | set(model.segmenter.readout.modules())
    for module in model.modules():
        if module not in skip and isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
            module.reset_parameters()
    nn.init.normal_(model.language.model.embed_tokens.weight, std=EMBEDDING_STD)


APPEARANCE_AND_PLACE = ("colour", "shape", "colour_shape", "size", "rank", "position", "plural", "absent")


def compact_cpu() -> Recipe:
    """Train the bundled model on one or two CPU cores in about two hours.

    Words for looks on single pictures first, then what the video side adds, then larger pictures and every kind, then
    looks again at the larger size.
    """
    words = Phase(
        num_steps=500,
        mix={"ground": 0.95, "follow": 0.05},
        num_frames={"ground": 1, "follow": 2},
        batch_size={"ground": 48, "follow": 12},
        size=96,
        num_segmentation_frames=1,
        hidden_video_share=1.0,
        freeze_encoder=True,
        kinds=("colour", "colour", "colour_shape", "shape"),
    )
    looks = Phase(
        num_steps=450,
        mix={"ground": 0.6, "follow": 0.4},
        num_frames={"ground": 4, "follow": 3},
        batch_size={"ground": 20, "follow": 10},
        size=96,
        hidden_video_share=0.4,
        kinds=APPEARANCE_AND_PLACE,
    )
    everything = Phase(
        num_steps=1100,
        mix={"ground": 0.5, "follow": 0.45, "follow_scene": 0.05},
        num_frames={"ground": 4, "follow": 4, "follow_scene": 4},
        batch_size={"ground": 14, "follow": 6, "follow_scene": 6},
        size=128,
        hidden_video_share=0.1,
        # Absent targets more often than one in fifteen, or "it is there" is always the better bet.
        kinds=(*KINDS, *APPEARANCE_AND_PLACE, "absent", "absent"),
    )
    polish = Phase(
        num_steps=550,
        mix={"ground": 0.85, "follow": 0.15},
        num_frames={"ground": 1, "follow": 3},
        batch_size={"ground": 40, "follow": 8},
        size=128,
        num_segmentation_frames=1,
        hidden_video_share=1.0,
        freeze_encoder=True,
        kinds=("colour", "colour", "colour_shape", "colour_shape", "shape", "size", "rank", "position", "absent"),
    )
    colours = replace(
        polish,
        num_steps=330,
        mix={"ground": 0.9, "follow": 0.1},
        kinds=("colour", "colour", "colour", "colour_shape", "colour_shape", "absent"),
    )
    return Recipe("compact_cpu", (words, looks, everything, polish, colours), num_decay_steps=250)


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
