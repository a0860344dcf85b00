"""Seconds from a typed query to masks, beside the same pipeline without the model.

    python tests/benchmarks/bench_query.py [--frames 100] [--size 512] [--model compact] [--threads 2] [--json]

A scene is written as TIFF; then, in one process and in turns, every query is followed through it (grounding, following,
masks to disk, label stack written), and the same file is read, its masks put to disk and written without a model. Times
are the medians over the queries.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
import torch

from napari_virst.cli.spool import MaskSpool
from napari_virst.engine.predictor import load_segmenter
from napari_virst.io.masks import write_label_stack
from napari_virst.io.video import open_video
from napari_virst.records import Job, Provenance, Query, Span
from napari_virst.training.scenes import sample_scene


def with_model(segmenter, path: Path, query: str, out: Path) -> dict[str, float]:
    """One query, as ``napari-virst segment`` runs it."""
    start_s = time.monotonic()
    grounded_s = None
    with open_video(path) as video, video.reader() as frames:
        spool = MaskSpool(video.shape)
        for result in segmenter.run(frames, Job(Query(query), Span(0, video.num_frames)), lambda: False):
            if grounded_s is None and result.provenance is Provenance.PROPAGATED:
                grounded_s = time.monotonic() - start_s
            spool.put(result.frame, result.mask)
        followed_s = time.monotonic() - start_s
        write_label_stack(out, spool.label_frames(), video.shape)
    total_s = time.monotonic() - start_s
    grounded_s = grounded_s or followed_s
    rate = video.num_frames / max(1e-9, followed_s - grounded_s)
    return {"grounded_s": grounded_s, "frames_per_s": rate, "total_s": total_s}


def without_model(path: Path, out: Path) -> float:
    """Reading, converting for the model, keeping and writing masks; nothing else."""
    start_s = time.monotonic()
    with open_video(path) as video, video.reader() as frames:
        spool, mask = MaskSpool(video.shape), np.zeros(video.shape[1:], np.bool_)
        mask[10:60, 10:60] = True
        for frame in range(video.num_frames):
            frames[frame]
            spool.put(frame, mask)
        write_label_stack(out, spool.label_frames(), video.shape)
    return time.monotonic() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sample = sample_scene(num_frames=options.frames, size=options.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tifffile.imwrite(folder / "scene.tif", sample.frames, photometric="rgb")
        start_s = time.monotonic()
        segmenter = load_segmenter(options.model, "cpu")
        load_s = time.monotonic() - start_s
        ours, plain = [], []
        for query in sample.queries:
            plain.append(without_model(folder / "scene.tif", folder / "plain.tif"))
            # A segmenter of its own: the second query on a video is cheaper, which is not what is asked here.
            fresh = load_segmenter(options.model, "cpu")
            ours.append(with_model(fresh, folder / "scene.tif", query, folder / "ours.tif"))
    result = {key: round(median(row[key] for row in ours), 3) for key in ours[0]}
    result |= {"without_model_s": round(median(plain), 3), "load_s": round(load_s, 3)}
    result["ratio"] = round(result["total_s"] / result["without_model_s"], 2)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{segmenter.name}, {options.frames} frames of {options.size}×{options.size}, {len(ours)} queries")
    print("| grounded after, s | frames/s then | in all, s | without model, s | ratio |\n|---|---|---|---|---|")
    cells = ("grounded_s", "frames_per_s", "total_s", "without_model_s", "ratio")
    print("| " + " | ".join(f"{result[cell]:.2f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
