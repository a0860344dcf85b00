"""What a run does and in which order: lessons, phases, recipes. Plain records; nothing is built here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from napari_virst.training.losses import LossWeights
from napari_virst.training.mask_prompts import MaskPrompts

LessonKind = Literal["watch", "still", "ground", "propagate", "follow", "follow_scene"]
"""What is done in a step.

"watch": name what goes on in clips, for the video tower alone. "still": language on single pictures without visual
tokens. "ground": language on clips. "propagate": language, and from there through memory. "follow", "follow_scene": a
mask to follow, in cut-outs or in scenes.
"""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one mix of lessons."""

    num_steps: int
    mix: dict[LessonKind, float]
    """Share of each kind of lesson; the shares are normalised."""
    num_frames: dict[LessonKind, int]
    batch_size: dict[LessonKind, int]
    size: int = 128
    """Side of the square frames in pixels."""
    num_segmentation_frames: int = 2
    """Frames of a language lesson that the segmenter is prompted on, drawn at random; the language side sees all. In
    "propagate" they are the model anchors, and the other frames are followed from them."""
    num_decoded_frames: int = 2
    """Most segmentation frames of a "still" or "ground" lesson whose masks are decoded and scored; the prompter sees
    all of them."""
    queries_per_scene: int = 4
    """Most queries asked of one scene; ``batch_size`` counts scenes."""
    hidden_video_share: float = 0.0
    """Share of clip lessons whose visual tokens are blanked; see ``steps.ground_step``."""
    freeze_encoder: bool = False
    """Whether language lessons leave the image encoder as it is (lessons in following always train it)."""
    kinds: tuple[str, ...] | None = None
    """Kinds of queries; None for all."""
    still_kinds: tuple[str, ...] | None = None
    """Kinds asked of single pictures; those of ``kinds`` that need no time where None."""
    frozen: tuple[str, ...] = ()
    """Beginnings of the names of weights that stay as they are; ("segmenter",) is the published alignment stage."""
    mask_prompts: MaskPrompts = field(default_factory=MaskPrompts)
    """How masks are given in lessons in following."""
    name: str = ""
    """"align", "segment" and "propagate" are the three stages of the paper."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the language model; the sizes are those of the published checkpoint."""

    rank: int = 64
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    also_trained: tuple[str, ...] = (
        "language.model.embed_tokens",
        "projector",
        "initial_fusion",
        "prompter",
        "segmenter",
    )
    """Beginnings of the names of weights that are trained in full beside the adapters."""

    @property
    def scaling(self) -> float:
        """The factor of B · A."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run."""

    name: str
    phases: tuple[Phase, ...]
    learning_rate: float = 8e-4
    weight_decay: float = 0.02
    num_warmup_steps: int = 200
    num_decay_steps: int = 1500
    """Length of the final linear decay of the learning rate; before it the rate is constant, so that a run can be
    lengthened or cut short and still end in a decay."""
    clip_norm: float = 1.0
    ema_decay: float | None = 0.99
    """Per update; one every ``loop.EMA_EVERY_STEPS`` optimiser steps. None: no averaged weights."""
    seed: int = 1
    loss_weights: LossWeights = field(default_factory=LossWeights)
    checkpoint_every_steps: int = 200
    log_every_steps: int = 50
    picture_every_steps: int = 500
    num_accumulated: int = 1
    """Lessons of one kind whose gradients are averaged into one optimiser step, on each device."""
    needs_model: bool = False
    """Whether it goes on from a trained model (``--from``) rather than from scratch."""
    lora: Lora | None = None
    """Where given, the language model itself stays as it is."""
    gradient_checkpointing: bool = False
    """Recompute the language model's layers in the backward pass: slower, and needs less memory."""
    data_share: float = 1.0
    """Where a run is given data of its own, the share of lessons taken from it; the others are procedural scenes, so
    that what was learned before is not forgotten."""

    @property
    def num_steps(self) -> int:
        """Length of the run in optimiser steps."""
        return sum(phase.num_steps for phase in self.phases)

    def phase_of(self, step: int) -> Phase:
        """Return the phase that ``step`` belongs to."""
        for phase in self.phases:
            if step < phase.num_steps:
                return phase
            step -= phase.num_steps
        return self.phases[-1]

    def rate_at(self, step: int) -> float:
        """Return the learning rate of ``step``: warm-up, constant, linear decay to 2 %."""
        warm = min(1.0, (step + 1) / max(1, self.num_warmup_steps))
        left = (self.num_steps - step) / max(1, self.num_decay_steps)
        return self.learning_rate * warm * max(0.02, min(1.0, left))
