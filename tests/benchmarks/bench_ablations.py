"""Which parts of VIRST carry it: one recipe and one budget, the parts taken out one by one.

python tests/benchmarks/bench_ablations.py --work DIR [--arm NAME ...] [--seed N ...] [--scale 1.0] [--threads 1]

Arms, each with seeds 1 and 2 unless told otherwise:

two_stage       both fusions, alignment stage; also asked with the first frame as its only anchor (same weights)
initial_only    the second fusion replaced by a projection of the ST tokens' hidden states
mlp             the second fusion replaced by an MLP on them
no_alignment    two_stage without the alignment stage; its steps go to the segmentation stage

A network of one to two million parameters, 64 pixels, queries by colour, position and motion. As the published model
begins with a trained SAM 2, so every arm begins with the same segmenter of its seed, trained before on following alone.
That segmenter has never seen a prompt, so that in the alignment stage its decoder learns with the language side, while
image encoder and memory stay as they are. Scores are J&F on scenes of seeds from 7000 on, which training never draws.

Every finished arm is a line in DIR/results.jsonl; what is there is not run again, and an arm that was stopped goes on
from its last checkpoint. The table of all lines is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from napari_virst.engine.options import PredictorOptions
from napari_virst.engine.predictor import Predictor
from napari_virst.model.config import FusionConfig, VideoTowerConfig, VirstConfig, qwen2_config
from napari_virst.model.language import IMAGE_TOKEN, ST_TOKEN
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.segmenter_config import SegmenterConfig
from napari_virst.model.virst import VirstModel
from napari_virst.training.evaluation import evaluation_scenes, score_scene, summarise
from napari_virst.training.loop import Trainer
from napari_virst.training.phases import Phase, Recipe
from napari_virst.training.recipes import start_from_scratch
from napari_virst.training.scenes import vocabulary

SIZE, KINDS = 64, ("colour", "position", "motion")
NUM_SCENES, NUM_FRAMES, EVALUATION_SEED = 96, 16, 7101


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


def build(second_fusion: str, seed: int) -> tuple[VirstModel, VirstProcessor]:
    """A network of the compact model's classes, narrow enough for minutes on one core."""
    tokenizer = build_word_tokenizer(vocabulary())
    config = VirstConfig(
        video_config=VideoTowerConfig(
            image_size=SIZE,
            patch_size=8,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_tokens_per_clip=32,
        ),
        text_config=qwen2_config(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        ),
        st_fusion_config=FusionConfig(
            num_st_tokens=4,
            num_downsamples=1,
            num_prompter_heads=4,
            num_initial_heads=4,
            use_initial_fusion=True,
            initial_gate=0.1,
            second_fusion=second_fusion,
        ),
        segmenter_config=SegmenterConfig.compact(SIZE),
        st_token_id=tokenizer.convert_tokens_to_ids(ST_TOKEN),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        prompt_style="compact",
        num_vlm_frames=8,
        num_segmentation_frames=8,
        num_fifo_frames=2,
    )
    torch.manual_seed(seed)
    model = VirstModel(config)
    start_from_scratch(model)
    return model, VirstProcessor.from_config(config, tokenizer)


def phase(name: str, num_steps: int, mix: dict, **options) -> Phase:
    """All lessons are of one size."""
    frames = {"ground": 4, "propagate": 4, "follow": 4, "follow_scene": 4}
    batches = {"still": 6, "ground": 3, "propagate": 2, "follow": 4, "follow_scene": 4}
    shared = {"size": SIZE, "queries_per_scene": 4, "kinds": KINDS, "name": name}
    return Phase(num_steps=num_steps, mix=mix, num_frames=frames, batch_size=batches, **shared, **options)


def segmenter_recipe(seed: int, scale: float) -> Recipe:
    """What comes before: following alone."""
    stage = phase("segmenter", round(250 * scale), {"follow": 0.5, "follow_scene": 0.5})
    return Recipe("ablation_segmenter", (stage,), num_warmup_steps=30, num_decay_steps=100, seed=seed)


def recipe_of(arm: Arm, seed: int, scale: float) -> Recipe:
    """The three stages; the number of steps is the same for every arm."""
    align, segment, propagate = (round(steps * scale) for steps in (120, 380, 120))
    language = {"still": 0.6, "ground": 0.4}
    stages = [
        phase("segment", segment, language | {"follow_scene": 0.1}),
        phase("propagate", propagate, {"still": 0.2, "propagate": 0.7, "follow_scene": 0.1}),
    ]
    if arm.has_alignment:
        untouched = ("segmenter.vision_encoder", "segmenter.readout")
        stages.insert(0, phase("align", align, language, frozen=untouched))
    else:
        stages[0] = replace(stages[0], num_steps=segment + align)
    return Recipe(
        "ablation", tuple(stages), num_warmup_steps=30, num_decay_steps=200, seed=seed, picture_every_steps=200
    )


def train(trainer: Trainer) -> float:
    """Run to the end, from the last checkpoint if there is one; return seconds of processor time."""
    trainer.resume()
    start_s = time.process_time()
    trainer.train()
    return time.process_time() - start_s


def segmenter_of(work: Path, seed: int, scale: float) -> dict[str, torch.Tensor]:
    """The segmenter that all arms of a seed begin with."""
    folder = work / f"segmenter_{seed}"
    trainer = Trainer(*build("attention", seed), segmenter_recipe(seed, scale), folder)
    train(trainer)
    return trainer.average.module.segmenter.state_dict()


def score(model: VirstModel, processor: VirstProcessor, options: PredictorOptions) -> dict:
    """J&F on scenes that training never saw."""
    predictor = Predictor(model, processor, "ablation", options)
    scenes = evaluation_scenes(EVALUATION_SEED, NUM_SCENES, kinds=KINDS, num_frames=NUM_FRAMES, size=SIZE)
    summary = summarise(score_scene(predictor, *scene) for scene in scenes)
    kinds = {kind: round(scores["j_and_f"], 4) for kind, scores in summary["kinds"].items() if kind in KINDS}
    return {"j_and_f": round(summary["overall"]["j_and_f"], 4), **kinds}


def run(work: Path, name: str, seed: int, scale: float) -> list[dict]:
    """Train one arm and score it."""
    arm = ARMS[name]
    segmenter = segmenter_of(work, seed, scale)
    model, processor = build(arm.second_fusion, seed)
    model.segmenter.load_state_dict(segmenter)
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
                lines = run(options.work, arm, seed, options.scale)
                with results.open("a") as file:
                    file.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(read(results)))


if __name__ == "__main__":
    main()
