"""Recipes are functions: what is built, and how it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn

from napari_virst.engine.loading import load_model, model_folder
from napari_virst.errors import InputError
from napari_virst.model.config import VirstConfig
from napari_virst.model.conversion import HEAD, HEAD_FILE
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.virst import VirstModel
from napari_virst.training.devices import Devices, OneDevice, Precision, pick_precision
from napari_virst.training.lessons import LessonSource, MixedLessons, SceneLessons
from napari_virst.training.loop import Trainer
from napari_virst.training.lora import add_adapters
from napari_virst.training.losses import LossWeights
from napari_virst.training.mask_prompts import MaskPrompts
from napari_virst.training.phases import LessonKind, Lora, Phase, Recipe
from napari_virst.training.scenes import vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

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


def open_run(
    recipe: Recipe,
    out_dir: Path,
    *,
    start_from: str | Path | None = None,
    source: LessonSource | None = None,
    devices: Devices | None = None,
    precision: Precision = "auto",
) -> Trainer:
    """Return a trainer for ``out_dir``, resumed where a run was begun there.

    Parameters
    ----------
    recipe
        What to do.
    out_dir
        The folder of the run.
    start_from
        The model to go on from: "compact", a folder, or owner/name on Hugging Face. Left out, from scratch. To resume
        such a run, give the same model again.
    source
        Lessons from data of one's own; scenes are mixed in as the recipe says. Left out, scenes alone.
    devices, precision
        Where to run, and in which precision.

    Raises
    ------
    InputError
        When the recipe needs a model to go on from and there is none.
    """
    if recipe.needs_model and start_from is None:
        raise InputError(
            f"The recipe {recipe.name} goes on from a trained model; there is none; give one by --from, "
            'e.g. --from compact or the folder that "napari-virst convert" wrote.'
        )
    devices = devices or OneDevice()
    is_mixed = pick_precision(precision, devices.device) is torch.bfloat16
    model, processor, head_WD = _begin(recipe, out_dir, start_from, is_mixed)
    if source is not None and recipe.data_share < 1:
        source = MixedLessons(source, SceneLessons(devices.device), recipe.data_share)
    trainer = Trainer(
        model, processor, recipe, out_dir, source=source, devices=devices, precision=precision, head_WD=head_WD
    )
    if trainer.is_first:
        processor.save_pretrained(out_dir / "processor")
    trainer.resume()
    return trainer


def _begin(
    recipe: Recipe, out_dir: Path, start_from: str | Path | None, is_mixed: bool
) -> tuple[VirstModel, VirstProcessor, Tensor | None]:
    if start_from is None:
        kept = out_dir / "processor"
        return *build_compact(recipe.seed, VirstProcessor.from_pretrained(kept) if kept.is_dir() else None), None
    # What stays as it is needs no more bits than it is computed with.
    model, processor, _ = load_model(start_from, dtype="bf16" if recipe.lora and is_mixed else "fp32")
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        add_adapters(model, recipe.lora)
    if recipe.gradient_checkpointing:
        model.language.model.gradient_checkpointing_enable()
    return model, processor, _head_of(model_folder(start_from)) if recipe.loss_weights.token else None


def _head_of(folder: Path) -> Tensor | None:
    """Read the vocabulary head that lies beside converted weights."""
    path = folder / HEAD_FILE
    return load_file(path)[HEAD] if path.is_file() else None


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


# A kind named twice is asked twice as often. Shapes, places and ranks take longest to learn.
_FIRST_STILLS = (
    *("colour", "colour", "colour_shape", "shape", "shape", "size", "size", "rank", "position", "position"),
    *("brightness", "relation", "plural", "absent"),
)
_STILLS = (
    *("colour", "colour_shape", "shape", "shape", "shape", "size", "rank", "rank", "position", "position"),
    *("brightness", "relation", "relation", "reasoning", "plural", "absent"),
)
_CLIPS = (
    *("motion", "motion", "speed", "change", "change", "division", "event", "event", "relation", "time", "time"),
    *("reasoning", "colour", "shape", "size", "rank", "position", "plural", "absent", "absent"),
)
# Looks that are asked about only where they are absent teach that a colour in the query means "not here": without the
# colours below, 14 of 16 clips asked for a colour and shape that they show were answered so.
_TIMES = (
    *("motion", "motion", "motion", "speed", "change", "change", "change", "division", "division"),
    *("event", "event", "event", "time", "time", "time", "reasoning", "reasoning", "relation", "relation"),
    *("rank", "shape", "position", "plural", "size", "colour", "colour_shape", "colour_shape", "brightness"),
    *("absent", "absent", "absent", "absent"),
)
_LAST_STILLS = (
    *("colour", "colour", "colour_shape", "colour_shape", "colour_shape", "shape", "shape", "shape", "size", "size"),
    *("rank", "rank", "position", "position", "brightness", "relation", "relation", "reasoning", "plural"),
    *("absent", "absent", "absent"),
)


def compact_cpu() -> Recipe:
    """Train the bundled model on one CPU core in about four hours.

    Words for looks on single pictures; then places and ranks on larger pictures; then clips, with clips that are only
    watched (see ``steps.watch_step``); in the end longer clips, most of them asked about what happens in time. Three
    lessons in ten are following throughout: at one in ten, learning looks cost a twentieth of J on real clips.
    """
    words = Phase(
        num_steps=1300,
        mix={"still": 0.65, "follow": 0.35},
        num_frames={"follow": 3},
        batch_size={"still": 14, "follow": 10},
        size=96,
        queries_per_scene=6,
        still_kinds=_FIRST_STILLS,
        name="words",
    )
    places = replace(
        words,
        num_steps=500,
        mix={"still": 0.7, "follow": 0.3},
        batch_size={"still": 12, "follow": 8},
        size=128,
        still_kinds=_STILLS,
        name="places",
    )
    clips = replace(
        places,
        num_steps=2100,
        mix={"watch": 0.06, "still": 0.22, "ground": 0.42, "follow": 0.3},
        num_frames={"watch": 8, "ground": 8, "follow": 4},
        batch_size={"watch": 16, "still": 12, "ground": 6, "follow": 8},
        num_segmentation_frames=4,
        kinds=_CLIPS,
        name="clips",
    )
    times = replace(
        clips,
        num_steps=4000,
        mix={"watch": 0.08, "still": 0.11, "ground": 0.53, "follow": 0.28},
        num_frames={"watch": 8, "ground": 8, "follow": 5},
        batch_size={"watch": 16, "still": 12, "ground": 6, "follow": 7},
        num_segmentation_frames=3,
        still_kinds=_LAST_STILLS,
        kinds=_TIMES,
        mask_prompts=MaskPrompts(later=0.4),
        name="times",
    )
    return Recipe(
        "compact_cpu",
        (words, places, clips, times),
        num_warmup_steps=50,
        num_decay_steps=900,
        loss_weights=LossWeights(presence=0.8),
    )


FULL_SIDE = 1024
"""Side of the published segmenter's input in pixels."""


def _three_stages(
    num_steps: tuple[int, int, int], size: int, num_frames: int, batch_size: int, **options: Any
) -> tuple[Phase, ...]:
    """Return the paper's three stages, those that have any steps.

    Language learns to speak to a segmenter that stays as it is; the segmenter learns to listen; everything learns to
    go on from anchors through memory.
    """
    sizes: dict[LessonKind, int] = {"ground": num_frames, "propagate": num_frames, "follow": num_frames}
    batches: dict[LessonKind, int] = dict.fromkeys(sizes, batch_size)
    shared = {"num_frames": sizes, "batch_size": batches, "size": size, **options}
    align, segment, propagate = num_steps
    stages = (
        Phase(num_steps=align, mix={"ground": 1.0}, frozen=("segmenter",), name="align", **shared),
        Phase(num_steps=segment, mix={"ground": 0.8, "follow": 0.2}, name="segment", **shared),
        Phase(num_steps=propagate, mix={"propagate": 0.7, "follow": 0.3}, name="propagate", **shared),
    )
    return tuple(stage for stage in stages if stage.num_steps)


def full_lora() -> Recipe:
    """Train the published model on real data in the paper's three stages, its language model through adapters.

    Made for GPUs of 80 GB; give a converted model by ``--from`` and videos by ``--data``.
    """
    phases = _three_stages((2000, 6000, 4000), FULL_SIDE, 8, 1, num_segmentation_frames=3, queries_per_scene=1)
    return Recipe(
        "full_lora",
        phases,
        learning_rate=4e-5,
        weight_decay=0.0,
        num_decay_steps=12_000,
        ema_decay=None,
        loss_weights=LossWeights.published(),
        num_accumulated=8,
        needs_model=True,
        lora=Lora(),
        gradient_checkpointing=True,
    )


def finetune() -> Recipe:
    """Go on from the bundled model, or one like it, with data of one's own; scenes keep what was learned before.

    A quarter of an hour to an hour on two CPU cores.
    """
    phase = Phase(
        num_steps=400,
        mix={"ground": 0.3, "propagate": 0.2, "follow": 0.4, "follow_scene": 0.1},
        num_frames={"ground": 8, "propagate": 4, "follow": 4, "follow_scene": 4},
        batch_size={"ground": 6, "propagate": 4, "follow": 6, "follow_scene": 4},
        name="finetune",
    )
    return Recipe(
        "finetune",
        (phase,),
        learning_rate=1e-4,
        num_warmup_steps=20,
        num_decay_steps=300,
        needs_model=True,
        data_share=0.6,
        checkpoint_every_steps=50,
        log_every_steps=10,
        picture_every_steps=100,
    )


def smoke() -> Recipe:
    """Return a few steps of everything, in three stages; its loss falls in under a minute on one CPU core."""
    phases = _three_stages((24, 8, 4), 64, 4, 3, queries_per_scene=2, kinds=("colour",))
    return Recipe(
        "smoke",
        phases,
        num_warmup_steps=2,
        num_decay_steps=2,
        checkpoint_every_steps=12,
        log_every_steps=4,
        picture_every_steps=36,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "compact_cpu": compact_cpu,
    "finetune": finetune,
    "full_lora": full_lora,
    "smoke": smoke,
}
"""Every recipe by its name; ``napari-virst train`` takes these."""
