"""When may a re-run after a correction end early? Measured on procedural scenes and on annotated clips.

python tests/benchmarks/bench_convergence.py [--scenes 16] [--frames 64] [--clips DIR] [--json FILE]

An object is followed from its first mask; then the true mask of the frame that came out worst is given, and everything
is followed again from both. Along each leg away from the correction the answers are held against the first run's, and
for every rule "n frames in a row with IoU of at least x" it is counted what stopping there would have cost and saved:

recomputed   frames followed again, as a share of all that a full re-run follows
J lost       mean J of the full re-run minus mean J with the rule, over all frames (positive: the rule is worse)
changed      frames left out on which the full re-run differs from what is held (IoU < 0.9), as a share of all frames

Where the model has object pointers (``--model attention``, see bench_sharing.py: random weights, which follow nothing,
so only how pointers and masks go together is of interest) their cosines are listed too, by what the masks say, and how
often a pointer says "not yet" where masks agree.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_sharing import build

from napari_virst.engine.convergence import Convergence
from napari_virst.engine.pointers import cosine
from napari_virst.engine.predictor import load_segmenter
from napari_virst.evaluation.clips import find_clips, last_masks
from napari_virst.evaluation.metrics import region_similarity
from napari_virst.io.video import open_video
from napari_virst.records import Anchor, Job, Query, Span
from napari_virst.training.scenes import FIRST_EVALUATION_SEED, follow_scenes

NUMBERS, THRESHOLDS = (2, 3, 4, 6, 8, 12), (0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True, eq=False)
class Repair:
    """One object before and after the correction of one frame."""

    truth: dict[int, np.ndarray]
    held: dict[int, np.ndarray]
    again: dict[int, np.ndarray]
    corrected: int
    cosines: dict[int, float]
    """Of the object pointers of both runs, where the model has any."""

    def sides(self) -> list[list[int]]:
        """Frames of both legs, in the order they are followed."""
        frames = sorted(self.again)
        return [
            [f for f in frames if f > self.corrected],
            [f for f in reversed(frames) if f < self.corrected],
        ]

    def mean_j(self, masks: dict[int, np.ndarray]) -> float:
        return float(np.mean([region_similarity(masks[f], self.truth[f]) for f in masks if f in self.truth]))

    def stopped(self, num_frames: int, min_iou: float) -> tuple[dict[int, np.ndarray], int, int]:
        """Masks under a rule, how many frames it follows, and how many changes it misses."""
        masks, num_followed, num_missed = {}, 0, 0
        for side in self.sides():
            rule, over = Convergence(self.held.get, num_frames, min_iou), False
            for frame in side:
                masks[frame] = self.held[frame] if over else self.again[frame]
                num_followed += not over
                num_missed += over and region_similarity(self.held[frame], self.again[frame]) < 0.9
                over = over or rule.reached(frame, self.again[frame])
        return masks, num_followed, num_missed


def repair(segmenter, frames, truth: dict[int, np.ndarray]) -> Repair | None:
    """Follow an object from its first mask, correct the worst frame, follow again."""
    first, span = min(truth), Span(min(truth), frames.shape[0])
    anchor = Anchor(first, truth[first])
    held = last_masks(segmenter, frames, Job(Query("", name="it"), span, (anchor,)))
    before = pointers_of(segmenter, frames, held)
    scores = {f: region_similarity(held[f], truth[f]) for f in held if f in truth and truth[f].any()}
    if not scores:
        return None
    worst = min(scores, key=scores.__getitem__)
    anchors = (anchor, Anchor(worst, truth[worst]))
    again = last_masks(segmenter, frames, Job(Query("", name="it"), span, anchors, focus_frame=worst))
    after = pointers_of(segmenter, frames, again)
    cosines = {f: cosine(before[f], after[f]) for f in before.keys() & after.keys()}
    return Repair(truth, held, again, worst, cosines)


def pointers_of(segmenter, frames, masks: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    found = {f: segmenter._pointers.find(frames.fingerprint, f, mask) for f, mask in masks.items()}
    return {f: pointer for f, pointer in found.items() if pointer is not None}


def show_pointers(repairs: list[Repair]) -> None:
    """Cosines of pointers where masks agree to some degree, and how many of them a threshold holds back."""
    both = [(region_similarity(r.held[f], r.again[f]), c) for r in repairs for f, c in r.cosines.items()]
    if not both:
        return
    bounds, rules = (0.0, 0.5, 0.9, 0.95, 1.0), (0.8, 0.9, 0.95, 0.98)
    held_back = " | ".join(f"cosine < {rule}" for rule in rules)
    print(f"\n| IoU of masks | frames | cosine: 5 %, median | {held_back} |\n|---|---|---|{'---|' * len(rules)}")
    for low, high in [*pairwise(bounds), (1.0, 2.0)]:
        part = np.array([c for iou, c in both if low <= iou < high])
        if len(part):
            shares = " | ".join(f"{(part < rule).mean():.2f}" for rule in rules)
            title = "1" if low == 1 else f"{low}…{high}"
            print(f"| {title} | {len(part)} | {np.quantile(part, 0.05):.3f}, {np.median(part):.3f} | {shares} |")


class Drawn:
    """Drawn frames as the segmenter sees them."""

    def __init__(self, pixels: np.ndarray, name: str) -> None:
        self.pixels, self.shape, self.fingerprint = pixels, pixels.shape, name

    def __getitem__(self, frame: int) -> np.ndarray:
        return self.pixels[frame]


def scene_repairs(segmenter, num_scenes: int, num_frames: int):
    for number in range(num_scenes):
        batch = follow_scenes(1, num_frames, 128, seed=FIRST_EVALUATION_SEED + number)
        pixels = (batch.frames[0].permute(0, 2, 3, 1) * 255).round().byte().numpy()
        masks = batch.masks[0].numpy()
        shown = [f for f in range(num_frames) if masks[f].any()]
        if not shown:
            continue
        yield repair(segmenter, Drawn(pixels, f"scene-{number}"), {f: masks[f] for f in range(shown[0], num_frames)})


def clip_repairs(segmenter, folder: Path):
    for clip in find_clips(folder):
        if not clip.objects:
            continue
        item = clip.objects[0]
        with open_video(clip.video) as video, video.reader() as frames:
            known = {f: clip.mask(f, item.label, frames.shape[1:3]) for f in range(item.first_frame, video.num_frames)}
            truth = {f: mask for f, mask in known.items() if mask is not None}
            if len(truth) >= 20 and truth[min(truth)].any():
                yield repair(segmenter, frames, truth)


def table(repairs: list[Repair]) -> list[dict[str, float]]:
    rows = []
    total = sum(len(r.again) for r in repairs)
    for min_iou in THRESHOLDS:
        for num_frames in NUMBERS:
            outcomes = [r.stopped(num_frames, min_iou) for r in repairs]
            lost = [r.mean_j(r.again) - r.mean_j(masks) for r, (masks, _, _) in zip(repairs, outcomes, strict=True)]
            rows.append(
                {
                    "min_iou": min_iou,
                    "num_frames": num_frames,
                    "recomputed": sum(o[1] for o in outcomes) / total,
                    "j_lost": float(np.mean(lost)),
                    "j_lost_most": float(np.max(lost)),
                    "changed": sum(o[2] for o in outcomes) / total,
                }
            )
    return rows


def show(title: str, repairs: list[Repair]) -> list[dict[str, float]]:
    before = np.mean([r.mean_j({f: r.held[f] for f in r.again}) for r in repairs])
    after = np.mean([r.mean_j(r.again) for r in repairs])
    print(f"\n{title}: {len(repairs)} objects; J before {before:.3f}, after a full re-run {after:.3f}\n")
    print("| IoU | n | recomputed | J lost, mean | J lost, most | changed |\n|---|---|---|---|---|---|")
    rows = table(repairs)
    for row in rows:
        numbers = f"{row['recomputed']:.2f} | {row['j_lost']:+.4f} | {row['j_lost_most']:+.4f} | {row['changed']:.3f}"
        print(f"| {row['min_iou']} | {row['num_frames']} | {numbers} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--model", default="compact", help='"compact", a folder, or "attention"')
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    segmenter, found = (
        build(options.model) if options.model == "attention" else load_segmenter(options.model, "cpu"),
        {},
    )
    if options.scenes:
        repairs = [r for r in scene_repairs(segmenter, options.scenes, options.frames) if r is not None]
        found["scenes"] = show("Scenes", repairs)
        show_pointers(repairs)
    if options.clips:
        found["clips"] = show("Clips", [r for r in clip_repairs(segmenter, options.clips) if r is not None])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
