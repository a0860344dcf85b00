"""Which parts of VIRST carry it: one recipe and one budget, the parts taken out one by one.

python tests/benchmarks/bench_ablations.py --work DIR [--arm NAME ...] [--seed N ...] [--scale 1.0] [--threads 1]

Arms, each with seeds 1 and 2 unless told otherwise:

two_stage       both fusions, alignment stage; also asked with the first frame as its only anchor (same weights)
initial_only    the second fusion replaced by a projection of the ST tokens' hidden states
mlp             the second fusion replaced by an MLP on them
no_alignment    two_stage without the alignment stage; its steps go to the segmentation stage

As the published model joins a trained SAM 2 and a trained video-language model, every arm begins with the bundled
model's segmenter, video tower, projector and language model, while both fusions begin untrained. In the alignment
stage the segmenter stays as it is. The bundled parts grew up with both fusions, which may favour that arm; the two
others that keep an untrained second part are as far from it as each other. Scores are J&F on scenes of seeds from 7000
on, which training never draws, by words alone.

Every finished arm is a line in DIR/results.jsonl; what is there is not run again, and an arm that was stopped goes on
from its last checkpoint. The table of all lines is printed at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_virst.engine.loading import load_model
from napari_virst.engine.options import PredictorOptions
from napari_virst.engine.predictor import Predictor
from napari_virst.model.virst import VirstModel
from napari_virst.training.evaluation import evaluation_scenes, score_scene, summarise
from napari_virst.training.loop import Trainer
from napari_virst.training.phases import Phase, Recipe
from napari_virst.training.recipes import start_from_scratch

if TYPE_CHECKING:
    from napari_virst.model.processing import VirstProcessor


SIZE, KINDS = 96, ("colour", "shape", "size", "position", "motion", "change", "event")
NUM_SCENES, NUM_FRAMES, EVALUATION_SEED = 112, 16, 7101
FUSIONS = ("initial_fusion.", "prompter.")


@dataclass(frozen=True)
class Arm:
    """One way to build and train."""

    second_fusion: str = "attention"
    has_alignment: bool = True
    anchors: tuple[str, ...] = ("dynamic",)


ARMS = {
    "two_stage": Arm(anchors=("dynamic", "first_frame")),
    "initial_only": Arm(second_fusion="none"),
    "mlp": Arm(second_fusion="mlp"),
    "no_alignment": Arm(has_alignment=False),
}
ANCHORS = {
    "dynamic": PredictorOptions(follow_with_windows=False, num_anchors=4, max_anchors=3),
    "first_frame": PredictorOptions(follow_with_windows=False, num_anchors=1, max_anchors=1),
}


def build(second_fusion: str, seed: int, start: str) -> tuple[VirstModel, VirstProcessor]:
    """The trained parts of ``start`` with untrained fusions."""
    trained, processor, _ = load_model(start, dtype="fp32")
    config = copy.deepcopy(trained.config)
    config.st_fusion_config.second_fusion = second_fusion
    torch.manual_seed(seed)
    model = VirstModel(config)
    start_from_scratch(model)
    parts = {name: value for name, value in trained.state_dict().items() if not name.startswith(FUSIONS)}
    left_out = model.load_state_dict(parts, strict=False)
    assert not left_out.unexpected_keys
    assert all(name.startswith(FUSIONS) for name in left_out.missing_keys)
    return model, processor


def phase(name: str, num_steps: int, mix: dict, **options) -> Phase:
    """All lessons are of one size."""
    frames = {"ground": 4, "propagate": 4, "follow": 4, "follow_scene": 4}
    batches = {"still": 10, "ground": 4, "propagate": 2, "follow_scene": 4}
    shared = {"size": SIZE, "queries_per_scene": 4, "kinds": KINDS, "name": name}
    return Phase(num_steps=num_steps, mix=mix, num_frames=frames, batch_size=batches, **shared, **options)


def recipe_of(arm: Arm, seed: int, scale: float) -> Recipe:
    """The three stages; the number of steps is the same for every arm."""
    align, segment, propagate = (round(steps * scale) for steps in (120, 240, 80))
    language = {"still": 0.5, "ground": 0.5}
    stages = [
        phase("segment", segment, {**language, "follow_scene": 0.1}),
        phase("propagate", propagate, {"still": 0.2, "propagate": 0.7, "follow_scene": 0.1}),
    ]
    if arm.has_alignment:
        stages.insert(0, phase("align", align, language, frozen=("segmenter",)))
    else:
        stages[0] = replace(stages[0], num_steps=segment + align)
    return Recipe(
        "ablation", tuple(stages), num_warmup_steps=20, num_decay_steps=150, seed=seed, picture_every_steps=10_000
    )


def train(trainer: Trainer) -> float:
    """Run to the end, from the last checkpoint if there is one; return seconds of processor time."""
    trainer.resume()
    start_s = time.process_time()
    trainer.train()
    return time.process_time() - start_s


def score(model: VirstModel, processor: VirstProcessor, options: PredictorOptions) -> dict:
    """J&F on scenes that training never saw."""
    predictor = Predictor(model, processor, "ablation", options)
    scenes = evaluation_scenes(EVALUATION_SEED, NUM_SCENES, kinds=KINDS, num_frames=NUM_FRAMES, size=SIZE)
    summary = summarise(score_scene(predictor, *scene) for scene in scenes)
    kinds = {kind: round(scores["j_and_f"], 4) for kind, scores in summary["kinds"].items() if kind in KINDS}
    return {"j_and_f": round(summary["overall"]["j_and_f"], 4), **kinds}


def run(work: Path, name: str, seed: int, scale: float, start: str) -> list[dict]:
    """Train one arm and score it."""
    arm = ARMS[name]
    model, processor = build(arm.second_fusion, seed, start)
    trainer = Trainer(model, processor, recipe_of(arm, seed, scale), work / f"{name}_{seed}")
    train_s = train(trainer)
    shared = {"arm": name, "seed": seed, "scale": scale, "num_steps": trainer.step, "train_s": round(train_s)}
    averaged = trainer.average.module
    return [{**shared, "anchors": anchors, **score(averaged, processor, ANCHORS[anchors])} for anchors in arm.anchors]


def read(path: Path) -> list[dict]:
    """All lines so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(lines: list[dict]) -> str:
    """Markdown: one row per arm and choice of anchors, mean over seeds and the scores of each."""
    rows = ["| arm | anchors | J&F | by seed | " + " | ".join(KINDS) + " |", "|---|---|---|---|" + "---|" * len(KINDS)]
    for arm, anchors in dict.fromkeys((line["arm"], line["anchors"]) for line in lines):
        mine = [line for line in lines if (line["arm"], line["anchors"]) == (arm, anchors)]
        by_seed = ", ".join(f"{line['j_and_f']:.3f}" for line in sorted(mine, key=lambda line: line["seed"]))
        kinds = " | ".join(f"{np.mean([line[kind] for line in mine if kind in line]):.3f}" for kind in KINDS)
        rows.append(f"| {arm} | {anchors} | {np.mean([m['j_and_f'] for m in mine]):.3f} | {by_seed} | {kinds} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seed", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of steps; keep it the same in a table")
    parser.add_argument("--start", default="compact", help="the model whose trained parts all arms begin with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.work / "results.jsonl"
    for seed in options.seed:
        for arm in options.arm:
            is_done = any((line["arm"], line["seed"]) == (arm, seed) for line in read(results))
            if not options.table and not is_done:
                lines = run(options.work, arm, seed, options.scale, options.start)
                with results.open("a") as file:
                    file.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(read(results)))


if __name__ == "__main__":
    main()
