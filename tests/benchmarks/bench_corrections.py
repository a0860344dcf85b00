"""How many corrections a video needs, against other ways to use a correction and to choose the next frame.

    python tests/benchmarks/bench_corrections.py [--clips DIR] [--clips-named NAME …] [--num-scenes N] [--budget 15]
        [--max-frames T] [--policy worst] [--variants …] [--choices …] [--keep FILE] [--csv FILE] [--plot FILE] [--json]

A simulated annotator corrects one frame at a time with the truth until mean J&F over all frames is 0.9; a video that
never gets there counts budget + 1. Same weights everywhere. Clips begin with the first true mask, half of the scenes
too, the other half with their query. ``--policy`` chooses the frames while variants are compared ("worst": the frame
with the worst J&F, as interactive benchmarks do); ``--choices`` compare policies for ours.

    ours            corrections condition memory, act both ways up to the next one, and demote model anchors
    sam2_default    corrections on followed frames are non-conditioning memory; the whole video runs again, forward
    no_arbitration  ours, with every model anchor kept
    forward_only    ours, each correction acting only forward, up to the next one
    not_carried     ours, without the masks that optical flow carries from corrections to the frames beside them

``--keep FILE`` holds finished runs (one JSON line each), so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from napari_virst.engine.options import CarryRule, PredictorOptions
from napari_virst.engine.predictor import load_segmenter
from napari_virst.evaluation.annotator import Annotation, Policy, Practice, Round, annotate, write_curves
from napari_virst.evaluation.chart import write_lines
from napari_virst.evaluation.clips import find_clips
from napari_virst.io.video import open_video
from napari_virst.training.evaluation import evaluation_scenes
from napari_virst.training.scenes import FIRST_EVALUATION_SEED, follow_scenes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

VARIANTS = {
    "ours": (PredictorOptions(), "both"),
    "sam2_default": (
        PredictorOptions(
            correction_memory="non_conditioning", arbitrate=False, directions="forward", carry_rule=CarryRule(0)
        ),
        "everything",
    ),
    "no_arbitration": (PredictorOptions(arbitrate=False), "both"),
    "forward_only": (PredictorOptions(directions="forward"), "forward"),
    "not_carried": (PredictorOptions(carry_rule=CarryRule(0)), "both"),
}
SCENE_KINDS = ("colour", "shape", "colour_shape", "brightness")
SCENE_FRAMES, SCENE_SIZE = 24, 160


@dataclass(frozen=True, eq=False)
class Item:
    """One object to annotate."""

    name: str
    pixels: object
    """A path, or frames (T, H, W, 3) uint8."""
    truth: Callable[[int], NDArray[np.bool_] | None]
    query: str


class FirstFrames:
    """The beginning of a video."""

    def __init__(self, frames, num_frames: int | None) -> None:
        self._frames = frames
        total, height, width, channels = frames.shape
        self.shape = (min(total, num_frames or total), height, width, channels)
        self.fingerprint = f"{frames.fingerprint}:{self.shape[0]}"

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        return self._frames[frame]


def clip_items(folder: Path, names: list[str]) -> Iterator[Item]:
    for clip in find_clips(folder):
        if names and clip.name not in names:
            continue
        with open_video(clip.video) as video:
            shape = video.shape[1:]
        for thing in clip.objects:
            truth = cache(lambda t, clip=clip, thing=thing, shape=shape: clip.mask(t, thing.label, shape))
            yield Item(f"{clip.name}:{thing.label}", clip.video, truth, "")


def scene_items(num_scenes: int, seed: int) -> Iterator[Item]:
    num_asked = num_scenes // 2
    if num_asked:
        scenes = evaluation_scenes(seed, 4 * num_asked, kinds=SCENE_KINDS, num_frames=SCENE_FRAMES, size=SCENE_SIZE)
        shown = [scene for scene in scenes if scene[1].any()][:num_asked]
        for number, (frames, masks, query, _) in enumerate(shown):
            yield Item(f"scene {number}: {query}", frames, lambda t, masks=masks: masks[t], query)
    num_followed = num_scenes - num_asked
    if num_followed:
        batch = follow_scenes(num_followed, SCENE_FRAMES, SCENE_SIZE, seed=seed)
        pixels = batch.frames.permute(0, 1, 3, 4, 2).contiguous().numpy()
        for number, masks in enumerate(batch.masks.numpy()):
            yield Item(f"follow {number}", pixels[number], lambda t, masks=masks: masks[t], "")


@cache
def segmenter_of(variant: str, model: str):
    return load_segmenter(model, "cpu", VARIANTS[variant][0])


def run(item: Item, variant: str, policy: str, options: argparse.Namespace) -> Annotation:
    axes = "TYXS" if isinstance(item.pixels, np.ndarray) else None
    practice = Practice(policy=policy, reach=VARIANTS[variant][1], budget=options.budget, seed=options.seed)
    with open_video(item.pixels, axes=axes) as video, video.reader() as reader:
        frames = FirstFrames(reader, options.max_frames)
        return annotate(segmenter_of(variant, options.model), frames, item.truth, item.query, practice)


class Shelf:
    """Finished runs, on disk where a file is given."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._runs: dict[str, Annotation] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._runs[entry["key"]] = Annotation(tuple(Round(**r) for r in entry["rounds"]), entry["budget"])

    def get(self, key: str, make: Callable[[], Annotation]) -> Annotation:
        if key not in self._runs:
            self._runs[key] = make()
            if self._path is not None:
                rounds = [asdict(one) for one in self._runs[key].rounds]
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "budget": self._runs[key].budget, "rounds": rounds}) + "\n")
        return self._runs[key]


def mean_to(goal: float, annotations: list[Annotation]) -> float | None:
    return float(np.mean([one.corrections_to(goal) for one in annotations])) if annotations else None


def mean_curve(annotations: list[Annotation], budget: int) -> list[float]:
    """Mean J&F after each number of corrections; an annotation that stopped early stays where it was."""
    curves = [[one.j_and_f for one in a.rounds] for a in annotations]
    return np.mean([curve + curve[-1:] * (budget + 1 - len(curve)) for curve in curves], axis=0).tolist()


def summarise(found: dict[tuple[str, str], dict[str, Annotation]], options: argparse.Namespace) -> dict:
    def over(variant: str, policy: str, goal: float) -> float | None:
        return mean_to(goal, list(found.get((variant, policy), {}).values()))

    names = list(next(iter(found.values()), {}))
    summary = {variant: over(variant, options.policy, 0.9) for variant in options.variants}
    summary["to_0.8"] = {variant: over(variant, options.policy, 0.8) for variant in options.variants}
    summary["frames_recomputed"] = {
        variant: sum(a.num_recomputed for a in found.get((variant, options.policy), {}).values())
        for variant in options.variants
    }
    summary["choices"] = {p: {"0.9": over("ours", p, 0.9), "0.8": over("ours", p, 0.8)} for p in options.choices}
    summary["clips"] = {
        name: {
            f"{v}/{p}": [runs[name].corrections_to(0.9), runs[name].corrections_to(0.8)]
            for (v, p), runs in found.items()
        }
        for name in names
    }
    summary["policy"], summary["budget"] = options.policy, options.budget
    return summary


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--clips-named", nargs="*", default=[])
    parser.add_argument("--num-scenes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=FIRST_EVALUATION_SEED)
    parser.add_argument("--budget", type=int, default=15)
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--policy", choices=get_args(Policy), default="worst")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--choices", nargs="*", choices=get_args(Policy), default=["suggested", "uniform", "random"])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse()
    shelf, found = Shelf(options.keep), {}
    items = list(clip_items(options.clips, options.clips_named)) if options.clips else []
    items += scene_items(options.num_scenes, options.seed)
    wanted = [(v, options.policy) for v in options.variants] + [("ours", p) for p in options.choices]
    for item in items:
        for variant, policy in dict.fromkeys(wanted):
            key = f"{item.name}|{variant}|{policy}|{options.budget}|{options.max_frames}|{options.seed}|{options.model}"
            done = shelf.get(key, lambda i=item, v=variant, p=policy: run(i, v, p, options))
            found.setdefault((variant, policy), {})[item.name] = done
            curve = " ".join(f"{one.j_and_f:.3f}" for one in done.rounds)
            print(f"{item.name} | {variant} | {policy} | {curve}", file=sys.stderr, flush=True)
    if options.csv:
        write_curves(options.csv, {f"{i}/{v}/{p}": a for (v, p), runs in found.items() for i, a in runs.items()})
    if options.plot:
        curves = {f"{v}, {p}": mean_curve(list(runs.values()), options.budget) for (v, p), runs in found.items()}
        write_lines(options.plot, "Mean J&F after each correction", curves)
    summary = summarise(found, options)
    if options.json:
        print(json.dumps(summary, indent=1))
        return
    for name in options.variants:
        print(f"| {name} | {summary[name]:.2f} | {summary['to_0.8'][name]:.2f} |")
    for name, numbers in summary["choices"].items():
        print(f"| ours, {name} | {numbers['0.9']:.2f} | {numbers['0.8']:.2f} |")


if __name__ == "__main__":
    main()
