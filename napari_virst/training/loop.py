"""The training loop: resumable from any checkpoint, bit for bit on the same machine.

Every step draws its data from a generator seeded by the step's own number, so that a resumed run sees what an
unbroken run would have seen.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_virst.errors import CheckpointError
from napari_virst.training.devices import Devices, OneDevice, Precision, pick_precision
from napari_virst.training.learner import AskingPlan, Learner
from napari_virst.training.lessons import LessonSource, SceneLessons, prepare_asked, prepare_follow
from napari_virst.training.logs import Board, MetricsFile, Tally, plot_losses
from napari_virst.training.lora import merged_state
from napari_virst.training.phases import LessonKind, Phase, Recipe
from napari_virst.training.pictures import picture_following, picture_language
from napari_virst.training.scenes import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel
    from napari_virst.training.lessons import AskedLesson, ClipStyle, FollowLesson

__all__ = ["LessonKind", "Phase", "Recipe", "Trainer"]

logger = logging.getLogger(__name__)

EMA_EVERY_STEPS = 4


class Trainer:
    """Owns the optimiser, the averaged weights and the step counter.

    Parameters
    ----------
    model, processor
        What learns, and what prepares its inputs.
    recipe
        What to do.
    out_dir
        Where ``state.pt`` (everything needed to resume), ``metrics.csv``, ``recipe.json``, sample pictures and
        TensorBoard's files go.
    source
        Where lessons come from; procedural scenes where left out.
    devices
        Where to run; one process on the CPU where left out.
    precision
        "bf16" trains in mixed precision; "auto" does so on CUDA.
    head_WD
        The vocabulary head (W words, D width of the language model), for the token loss.
    """

    def __init__(
        self,
        model: VirstModel,
        processor: VirstProcessor,
        recipe: Recipe,
        out_dir: Path,
        *,
        source: LessonSource | None = None,
        devices: Devices | None = None,
        precision: Precision = "auto",
        head_WD: Tensor | None = None,
    ) -> None:
        self.model, self.processor, self.recipe, self.out_dir = model, processor, recipe, out_dir
        self.devices = devices or OneDevice()
        self.source = source or SceneLessons(self.devices.device)
        self.step = 0
        torch.manual_seed(recipe.seed)
        dtype = pick_precision(precision, self.devices.device)
        self.learner = Learner(model, processor, recipe.loss_weights, dtype, head_WD).to(self.devices.device)
        self.auxiliary = self.learner.auxiliary
        self.average = None if recipe.ema_decay is None else _average_of(model, recipe.ema_decay)
        self._trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        self._wrapped, self.optimiser = self.devices.prepare(self.learner, _optimiser_for(self.learner, recipe))
        self._tally, self.metrics = Tally(), MetricsFile(out_dir / "metrics.csv")
        self._board: Board | None = None
        out_dir.mkdir(parents=True, exist_ok=True)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.devices.rank == 0

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Run to the end of the recipe, saving as it goes; ``should_stop`` is asked before every step."""
        if self.is_first:
            (self.out_dir / "recipe.json").write_text(json.dumps(asdict(self.recipe), indent=1))
            self._board = Board(self.out_dir / "tensorboard")
        self.model.train()
        start_s = time.monotonic()
        while self.step < self.recipe.num_steps and not should_stop():
            kind, loss, terms = self.train_step()
            self._tally.add(kind, {"loss": loss, **terms})
            self._report(time.monotonic() - start_s)
        self.save()
        if self._board is not None:
            self._board.close()
            plot_losses(self.metrics, self.out_dir / "losses.png")

    def train_step(self) -> tuple[LessonKind, float, dict[str, float]]:
        """Take one optimiser step; return the kind of lesson, and mean loss and terms of its lessons."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        phase = self.recipe.phase_of(self.step)
        kind = _draw(phase.mix, generator)
        plan = _plan_asking(kind, phase, generator)
        self._open_weights(phase)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        num = self.recipe.num_accumulated
        answers = [self._learn(kind, phase, plan, number) for number in range(num)]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self.step += 1
        if self.average is not None and self.step % EMA_EVERY_STEPS == 0:
            self.average.update_parameters(self.model)
        terms = {name: sum(terms[name] for _, terms in answers) / num for name in answers[0][1]}
        return kind, sum(loss for loss, _ in answers) / num, terms

    def _learn(self, kind: LessonKind, phase: Phase, plan: AskingPlan, number: int) -> tuple[float, dict[str, float]]:
        """Compute the gradients of lesson ``number`` of those that are accumulated."""
        seed = _seed_of(self.recipe.seed, self.step, number, self.devices.rank)
        torch.manual_seed(seed)
        lesson = self._draw_lesson(kind, phase, torch.Generator().manual_seed(seed))
        is_last = number == self.recipe.num_accumulated - 1
        with nullcontext() if is_last else self.devices.without_exchange(self._wrapped):
            loss, terms = self._wrapped(lesson, plan)
            self.devices.backward(loss / self.recipe.num_accumulated)
        return loss.item(), terms

    def _draw_lesson(self, kind: LessonKind, phase: Phase, generator: torch.Generator) -> AskedLesson | FollowLesson:
        batch, device = phase.batch_size[kind], self.devices.device
        if kind in ("follow", "follow_scene"):
            clips = self.source.clips(batch, phase.num_frames[kind], phase.size, generator, _style_of(kind))
            return prepare_follow(clips, self.processor, phase.mask_prompts, generator, device)
        kinds = _kinds_of(kind, phase)
        num_frames = _num_frames_of(kind, phase)
        num_queries = 1 if kind == "watch" else phase.queries_per_scene
        scenes = self.source.asked(batch, num_queries, num_frames, phase.size, generator, kinds)
        return prepare_asked(scenes, self.processor, device)

    def _open_weights(self, phase: Phase) -> None:
        """Freeze what the phase leaves as it is, and nothing else of what is trained at all."""
        for name, weight in self.model.named_parameters():
            if name in self._trained:
                weight.requires_grad_(not name.startswith(phase.frozen) if phase.frozen else True)

    # What is written down --------------------------------------------------------------------------------------------

    def _report(self, elapsed_s: float) -> None:
        recipe, is_end = self.recipe, self.step == self.recipe.num_steps
        if self.is_first and (self.step % recipe.log_every_steps == 0 or is_end):
            self._log(elapsed_s)
        if self.is_first and self.step % recipe.picture_every_steps == 0:
            self._show_pictures()
        if self.step % recipe.checkpoint_every_steps == 0:
            self.save()

    def _log(self, elapsed_s: float) -> None:
        phase = self.recipe.phase_of(self.step - 1)
        shared: dict[str, str | int | float] = {
            "step": self.step,
            "phase": phase.name,
            "learning_rate": round(self.recipe.rate_at(self.step - 1), 9),
            "elapsed_s": round(elapsed_s, 1),
        }
        rows = [{**shared, **row} for row in self._tally.rows()]
        self.metrics.append(rows)
        if self._board is not None:
            self._board.add_rows(self.step, rows)
        for row in rows:
            logger.info("step %d %s: loss %.4f", self.step, row["lesson"], row["loss"])

    def _show_pictures(self) -> None:
        """Draw samples of every kind of lesson in the present mix."""
        phase = self.recipe.phase_of(self.step - 1)
        self.model.eval()
        for kind in phase.mix:
            if kind in ("follow", "follow_scene"):
                num_frames = phase.num_frames[kind]
                picture = picture_following(self.learner, self.source, num_frames, phase.size, _style_of(kind))
            else:
                frames = _num_frames_of(kind, phase)
                picture = picture_language(self.learner, self.source, frames, phase.size, _kinds_of(kind, phase))
            path = self.out_dir / "pictures" / f"{kind}_{self.step:07d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(path)
            if self._board is not None:
                self._board.add_picture(self.step, kind, picture)
        self.model.train()

    def save(self) -> Path:
        """Write everything needed to resume, atomically; only the first process writes."""
        path = self.out_dir / "state.pt"
        if self.is_first:
            state = {
                "step": self.step,
                "recipe": self.recipe.name,
                "model": self._kept(self.model.state_dict()),
                "average": {} if self.average is None else self.average.state_dict(),
                "auxiliary": self.auxiliary.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            }
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        self.devices.wait()
        return path

    def resume(self, path: Path | None = None) -> bool:
        """Load what :meth:`save` wrote; return whether there was anything to load.

        Raises
        ------
        CheckpointError
            When it is of another recipe, or its weights are of another model.
        """
        path = path or self.out_dir / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state.get("recipe", self.recipe.name) != self.recipe.name:
            raise CheckpointError(
                f'The run in "{path.parent}" must go on with its own recipe, {state["recipe"]}; '
                f"got {self.recipe.name}; choose another folder for another run."
            )
        try:
            self._load(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f'The state in "{path}" must be of this model: {error}') from error
        self.step = int(state["step"])
        if self.is_first:
            self.metrics.forget_after(self.step)
        return True

    def _load(self, state: dict[str, Any]) -> None:
        """Load; parts that did not exist when the run was saved keep their start values, and the optimiser too."""
        expected, found = self._kept(self.model.state_dict()).keys(), state["model"].keys()
        if unknown := sorted(found - expected):
            raise KeyError(f"unknown weights {unknown[:5]}")
        self.model.load_state_dict(state["model"], strict=False)
        if self.average is not None:
            self.average.load_state_dict(state["average"], strict=False)
        mine, theirs = self.auxiliary.state_dict(), state["auxiliary"]
        known = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
        self.auxiliary.load_state_dict(known, strict=False)
        if expected == found and known.keys() == mine.keys() == theirs.keys():
            self.optimiser.load_state_dict(state["optimiser"])
        else:
            logger.warning("the network has new parts since this run was saved; they and the optimiser begin anew")

    def _kept(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave out weights that are never trained, where most are such."""
        return {k: v for k, v in state.items() if k in self._trained} if self.recipe.lora else state

    def export(self, folder: Path) -> None:
        """Write the averaged weights, adapters merged, as a Hugging Face folder with the processor.

        In float16; in bfloat16 where adapters were trained, as the published model is.
        """
        state = (self.model if self.average is None else self.average.module).state_dict()
        dtype = torch.float16
        if self.recipe.lora:
            state, dtype = merged_state(state, self.recipe.lora), torch.bfloat16
        half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        self.model.save_pretrained(folder, state_dict=half)
        self.processor.save_pretrained(folder)


def _average_of(model: VirstModel, decay: float) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _optimiser_for(learner: Learner, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; biases, gains and other vectors are not decayed."""
    every = [*learner.model.parameters(), *learner.auxiliary.parameters()]
    trained = [weight for weight in every if weight.requires_grad]
    matrices, vectors = [w for w in trained if w.ndim > 1], [w for w in trained if w.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def _seed_of(seed: int, step: int, number: int, rank: int) -> int:
    """Seed of one lesson: different for every step, accumulated lesson and process; the first is the step's own."""
    return (seed * 1_000_003 + step + (number * 1_009 + rank * 9_176_263) * 7_919_777) % (1 << 62)


def _plan_asking(kind: LessonKind, phase: Phase, generator: torch.Generator) -> AskingPlan:
    num_frames = _num_frames_of(kind, phase)
    order = torch.randperm(num_frames, generator=generator)[: phase.num_segmentation_frames]
    is_hidden = kind == "still" or float(torch.rand((), generator=generator)) < phase.hidden_video_share
    is_propagated = kind == "propagate"
    frames = tuple(sorted(order.tolist()))
    places = torch.randperm(len(frames), generator=generator)[: phase.num_decoded_frames]
    decoded = tuple(sorted(places.tolist()))
    return AskingPlan(
        frames, decoded, not is_hidden or is_propagated, phase.freeze_encoder, is_propagated, kind == "watch"
    )


def _num_frames_of(kind: LessonKind, phase: Phase) -> int:
    return 1 if kind == "still" else phase.num_frames[kind]


def _style_of(kind: LessonKind) -> ClipStyle:
    return "window" if kind == "follow" else "whole"


def _kinds_of(kind: LessonKind, phase: Phase) -> tuple[str, ...]:
    return (phase.still_kinds if kind == "still" else None) or phase.kinds or KINDS


def _draw(mix: dict[LessonKind, float], generator: torch.Generator) -> LessonKind:
    kinds = list(mix)
    weights = torch.tensor([mix[kind] for kind in kinds])
    return kinds[int(torch.multinomial(weights, 1, generator=generator))]
