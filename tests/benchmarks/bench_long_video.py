"""Peak memory against the length of a virtual video, up to 10 000 frames, masks on disk.

python tests/benchmarks/bench_long_video.py [--frames 100 1000 10000] [--model compact|tiny] [--cache-mb 8]

Frames are drawn when they are asked for, so nothing but following and its masks can grow. Every length is a process of
its own, and its peak is what the operating system says; it may be run in parts (``--frames 10000`` alone). ``tiny`` is
the bundled model's classes at a fraction of its size, for which 10 000 frames take minutes where the bundled one takes
a quarter of an hour: what is kept and let go is decided by the same code. ``attention`` follows whole frames, whose
features fill the cache up to its budget (--cache-mb); it has to be filled at the shortest length to be compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = 96, 128


def build(model: str, cache_mb: int):
    from napari_virst.engine.cache import CacheLimits
    from napari_virst.engine.loading import load_model
    from napari_virst.engine.predictor import Predictor, PredictorOptions

    options = PredictorOptions(cache=CacheLimits(ram_bytes=cache_mb * 2**20))
    if model == "compact":
        return Predictor(*load_model("compact"), options)
    if model == "attention":
        from bench_sharing import build as build_attention

        predictor = build_attention("attention")
        return Predictor(predictor._model, predictor._processor, model, options)
    sys.path.append(str(Path(__file__).parents[1]))
    from fixtures.models import build_tiny

    return Predictor(*build_tiny(), model, options)


def follow(model: str, num_frames: int, cache_mb: int) -> dict[str, float]:
    """Follow a disc from its first mask to the last frame; every mask goes to disk."""
    import numpy as np
    import torch
    from bench_sharing import Discs

    from napari_virst.records import Anchor, Job, Query, Span

    torch.set_num_threads(1)
    predictor, video, start_s = build(model, cache_mb), Discs(num_frames, "long", SIZE), time.monotonic()
    job = Job(Query("", name="disc"), Span(0, num_frames), (Anchor(0, video.disc(0)),))
    with tempfile.TemporaryFile() as masks:
        for result in predictor.run(video, job, lambda: False):
            packed = np.packbits(result.mask).tobytes()
            masks.seek(result.frame * len(packed))
            masks.write(packed)
    return {
        "num_frames": num_frames,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.monotonic() - start_s,
        "cache_mb": sum(level.num_bytes for level in predictor.cache_report().levels) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--model", choices=["compact", "tiny", "attention"], default="compact")
    parser.add_argument("--cache-mb", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(follow(options.model, options.frames[0], options.cache_mb)))
        return
    rows = []
    print("| model | frames | peak MB | over the first | s | cache MB |\n|---|---|---|---|---|---|")
    for num_frames in options.frames:
        command = [sys.executable, __file__, "--child", "--frames", str(num_frames), "--model", options.model]
        command += ["--cache-mb", str(options.cache_mb)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        ratio = row["peak_mb"] / rows[0]["peak_mb"]
        print(
            f"| {options.model} | {num_frames} | {row['peak_mb']:.0f} | {ratio:.2f} | {row['seconds']:.0f} | "
            f"{row['cache_mb']:.1f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
