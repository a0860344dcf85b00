"""Does learning from corrections help on the frames that nobody corrected?

python tests/benchmarks/bench_learning.py --clips DIR [--clips-named NAME …] [--corrections 2 4] [--json FILE]
    [--steps 30] [--rate 0.002] [--min-gain 0.03]

The true masks of K frames, spread evenly over those that show the object, are given as corrections. The video is
followed from them twice, without and with learning, and scored on all other annotated frames. ``--min-gain -1`` uses
the adapter whether or not it helped on the corrections that were left out: what the check saves or costs. Seconds are
those of the processor.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from napari_virst.engine.options import LearningRule
from napari_virst.engine.predictor import PredictorOptions, load_segmenter
from napari_virst.evaluation.clips import find_clips
from napari_virst.evaluation.metrics import region_similarity
from napari_virst.io.video import open_video
from napari_virst.records import Anchor, Job, Query, Span


@dataclass(frozen=True)
class Row:
    """One object with one number of corrections."""

    clip: str
    label: int
    num_corrections: int
    corrections_before: float
    corrections_after: float
    helped: bool
    others_without: float
    others_with: float
    learning_s: float
    following_s: float


def never() -> bool:
    return False


def follow(segmenter, frames, job: Job) -> tuple[dict[int, np.ndarray], float]:
    start_s = time.process_time()
    masks = {result.frame: result.mask for result in segmenter.run(frames, job, never)}
    return masks, time.process_time() - start_s


def score(masks: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> float:
    return float(np.mean([region_similarity(masks[f], truth[f]) for f in masks if f in truth]))


def measure(segmenter, frames, clip: str, label: int, truth: dict[int, np.ndarray], count: int) -> Row | None:
    shown = [frame for frame in sorted(truth) if truth[frame].any()]
    if len(shown) < 2 * count:
        return None
    given = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, 2 * count + 1)[1::2]]
    job = Job(Query("", name="it"), Span(0, frames.shape[0]), tuple(Anchor(f, truth[f]) for f in given))
    without, following_s = follow(segmenter, frames, job)
    start_s = time.process_time()
    learned = segmenter.learn(frames, job, never)
    learning_s = time.process_time() - start_s
    adapted, _ = follow(segmenter, frames, replace(job, learn=True))
    scores = score(without, truth), score(adapted, truth)
    before_after = learned.iou_before, learned.iou_after, learned.helped
    return Row(clip, label, count, *before_after, *scores, learning_s, following_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--clips-named", nargs="+")
    parser.add_argument("--max-objects", type=int, default=2)
    parser.add_argument("--corrections", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, default=LearningRule.num_steps)
    parser.add_argument("--rate", type=float, default=LearningRule.learning_rate)
    parser.add_argument("--min-gain", type=float, default=LearningRule.min_gain)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rule = LearningRule(num_steps=arguments.steps, learning_rate=arguments.rate, min_gain=arguments.min_gain)
    segmenter = load_segmenter(arguments.model, arguments.device, PredictorOptions(learning=rule))
    rows: list[Row] = []
    for clip in find_clips(arguments.clips):
        if arguments.clips_named and clip.name not in arguments.clips_named:
            continue
        with open_video(clip.video) as video:
            frames = video.reader()
            for item in clip.objects[: arguments.max_objects]:
                asked = ((f, clip.mask(f, item.label, frames.shape[1:3])) for f in range(frames.shape[0]))
                truth = {frame: mask for frame, mask in asked if mask is not None}
                for count in arguments.corrections:
                    row = measure(segmenter, frames, clip.name, item.label, truth, count)
                    if row is None:
                        continue
                    rows.append(row)
                    print(
                        f"{row.clip:22s} {row.label:3d} K={count}  left out {row.corrections_before:.3f} → "
                        f"{row.corrections_after:.3f} {'used   ' if row.helped else 'dropped'}  others "
                        f"{row.others_without:.3f} → {row.others_with:.3f}  learning {row.learning_s:.1f} s, "
                        f"following {row.following_s:.1f} s",
                        flush=True,
                    )
    means = [float(np.mean([getattr(row, name) for row in rows])) for name in ("others_without", "others_with")]
    print(f"mean J of the other frames over {len(rows)} rows: {means[0]:.4f} → {means[1]:.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
