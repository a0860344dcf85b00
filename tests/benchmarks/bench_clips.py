"""Mask following on annotated clips: the first true mask is given, J beside copying it.

python tests/benchmarks/bench_clips.py DIR [--model compact] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from napari_virst.engine.predictor import load_segmenter
from napari_virst.evaluation.clips import find_clips, score_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    segmenter = load_segmenter(options.model, "cpu")
    scores = []
    for clip in find_clips(options.clips):
        if not clip.objects or (options.only and clip.name not in options.only):
            continue
        start_s = time.monotonic()
        score = score_clip(segmenter, clip)
        scores.append(score)
        if not options.json:
            seconds = time.monotonic() - start_s
            print(
                f"| {score.name} | {score.num_frames} | {score.mean_j:.3f} | {score.mean_j_copy:.3f} | {seconds:.1f} |",
                flush=True,
            )
    mean_j, mean_copy = (float(np.mean([getattr(s, name) for s in scores])) for name in ("mean_j", "mean_j_copy"))
    if options.json:
        print(
            json.dumps(
                {"mean_j": mean_j, "mean_j_copy": mean_copy, "clips": {s.name: asdict(s) for s in scores}}, indent=1
            )
        )
    else:
        print(f"| **mean** | | **{mean_j:.3f}** | **{mean_copy:.3f}** | |")


if __name__ == "__main__":
    main()
