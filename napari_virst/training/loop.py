"""The training loop: resumable from any checkpoint, bit for bit on the same machine.

Every step draws its data from a generator seeded by the step's own number, so that a resumed run sees what an
unbroken run would have seen.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_virst.training.losses import LossWeights
from napari_virst.training.scenes import follow_scenes, language_scenes
from napari_virst.training.steps import Alignment, Lesson, follow_step, ground_step, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel

logger = logging.getLogger(__name__)

EMA_EVERY_STEPS = 4

LessonKind = Literal["ground", "follow", "follow_scene"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one mix of lessons."""

    num_steps: int
    mix: dict[LessonKind, float]
    """Share of each kind of lesson; the shares are normalised."""
    num_frames: dict[LessonKind, int]
    batch_size: dict[LessonKind, int]
    size: int = 128
    num_segmentation_frames: int = 2
    """Frames of a language lesson that the segmenter sees, drawn at random; the language side sees all."""
    hidden_video_share: float = 0.0
    """Share of language lessons whose visual tokens are blanked; see ``steps.ground_step``."""
    freeze_encoder: bool = False
    """Whether language lessons leave the image encoder as it is (lessons in following always train it)."""
    kinds: tuple[str, ...] | None = None
    """Kinds of queries; None for all."""


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
    ema_decay: float = 0.99
    """Per update; one every EMA_EVERY_STEPS optimiser steps."""
    seed: int = 1
    loss_weights: LossWeights = field(default_factory=LossWeights)
    checkpoint_every_steps: int = 200

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


class Trainer:
    """Owns the optimiser, the averaged weights and the step counter.

    Parameters
    ----------
    model, processor
        What learns, and what prepares its inputs.
    recipe
        What to do.
    out_dir
        Where ``state.pt`` (everything needed to resume), ``log.csv`` and ``recipe.json`` go.
    """

    def __init__(self, model: VirstModel, processor: VirstProcessor, recipe: Recipe, out_dir: Path) -> None:
        self.model, self.processor, self.recipe = model, processor, recipe
        self.out_dir = out_dir
        self.step = 0
        torch.manual_seed(recipe.seed)
        self.alignment = Alignment(model.config.segmenter_config.num_channels)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
        parameters = [*model.parameters(), *self.alignment.parameters()]
        matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Run to the end of the recipe, saving as it goes; ``should_stop`` is asked before every step."""
        self.model.train()
        start_s = time.monotonic()
        running: dict[str, float] = {}
        while self.step < self.recipe.num_steps and not should_stop():
            kind, loss, terms = self.train_step()
            for name, value in {"loss": loss, **terms}.items():
                key = f"{kind}/{name}"
                running[key] = value if key not in running else 0.95 * running[key] + 0.05 * value
            if self.step % 50 == 0:
                self._log(running, time.monotonic() - start_s)
            if self.step % self.recipe.checkpoint_every_steps == 0:
                self.save()
        self.save()

    def train_step(self) -> tuple[LessonKind, float, dict[str, float]]:
        """Take one optimiser step; return the kind of lesson, the loss and its terms."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        phase = self.recipe.phase_of(self.step)
        kind = _draw(phase.mix, generator)
        loss, terms = self._loss(kind, self._lesson(kind, phase, generator), phase, generator)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self.step += 1
        if self.step % EMA_EVERY_STEPS == 0:
            self.average.update_parameters(self.model)
        return kind, loss.item(), terms

    def _lesson(self, kind: LessonKind, phase: Phase, generator: torch.Generator) -> Lesson:
        batch_size, num_frames = phase.batch_size[kind], phase.num_frames[kind]
        if kind == "follow":
            scenes = follow_scenes(batch_size, num_frames, phase.size, generator=generator)
        else:
            kinds = phase.kinds if kind == "ground" else None
            scenes = language_scenes(batch_size, num_frames, phase.size, generator=generator, kinds=kinds)
        return prepare(scenes, self.processor)

    def _loss(
        self, kind: LessonKind, lesson: Lesson, phase: Phase, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        if kind == "ground":
            shown = _draw_frames(lesson.pixels_BT3SS.shape[1], phase.num_segmentation_frames, generator)
            return ground_step(
                self.model,
                self.processor,
                lesson,
                self.recipe.loss_weights,
                segmentation_frames=shown,
                alignment=self.alignment,
                hide_video_B=torch.rand(len(lesson.queries), generator=generator) < phase.hidden_video_share,
                freeze_encoder=phase.freeze_encoder,
            )
        return follow_step(self.model, lesson, self.recipe.loss_weights)

    def _log(self, running: dict[str, float], elapsed_s: float) -> None:
        row = {
            "step": self.step,
            "elapsed_s": round(elapsed_s, 1),
            **{k: round(v, 4) for k, v in sorted(running.items())},
        }
        logger.info("%s", row)
        with (self.out_dir / "log.csv").open("a", newline="") as file:
            csv.writer(file).writerow([json.dumps(row)])

    def save(self) -> Path:
        """Write everything needed to resume, atomically."""
        path = self.out_dir / "state.pt"
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "alignment": self.alignment.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        return path

    def resume(self, path: Path | None = None) -> bool:
        """Load what :meth:`save` wrote; return whether there was anything to load."""
        path = path or self.out_dir / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.alignment.load_state_dict(state["alignment"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        return True

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a Hugging Face folder in float16, with the processor."""
        averaged = self.average.module.state_dict()
        half = {k: v.half() if v.is_floating_point() else v for k, v in averaged.items()}
        self.model.save_pretrained(folder, state_dict=half)
        self.processor.save_pretrained(folder)


def _draw(mix: dict[LessonKind, float], generator: torch.Generator) -> LessonKind:
    kinds = list(mix)
    weights = torch.tensor([mix[kind] for kind in kinds])
    return kinds[int(torch.multinomial(weights, 1, generator=generator))]


def _draw_frames(num_frames: int, num_shown: int, generator: torch.Generator) -> tuple[int, ...]:
    order = torch.randperm(num_frames, generator=generator)[:num_shown]
    return tuple(sorted(int(i) for i in order))
