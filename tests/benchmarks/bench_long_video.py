"""Peak memory against the length of a virtual video, up to 10 000 frames, masks on disk.

python tests/benchmarks/bench_long_video.py [--frames 100 1000 10000] [--model compact|tiny] [--paths engine session]

One mask is followed from the first frame to the last. Frames are drawn when they are asked for, so nothing but
following and its masks can grow. Every run is a process of its own; it may be run in parts (``--frames 10000`` alone).

engine    the predictor alone; masks are packed into a file
session   an annotation session with its project folder: mask file, records, ledger, progress; one track is run,
          corrected in the middle and run again, as a person does
segment   ``napari-virst segment`` with the mask given, on a TIFF that is drawn first

peak      what the operating system says was resident at most, pages of the mapped mask file included
own       the most that was the process's own (RssAnon, looked at every 50 frames): the rest are pages of files, which
          the system takes back as soon as it needs them

``tiny`` is the bundled model's classes at a fraction of its size: what is kept and let go is decided by the same code.
``attention`` follows whole frames, whose features fill the cache up to its budget (--cache-mb); it has to be filled at
the shortest length to be compared.
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
LOOK_EVERY = 50


def build(model: str, cache_mb: int):
    from napari_virst.engine.cache import CacheLimits
    from napari_virst.engine.predictor import Predictor, PredictorOptions, load_segmenter

    options = PredictorOptions(cache=CacheLimits(ram_bytes=cache_mb * 2**20))
    if model == "compact":
        return load_segmenter("compact", "cpu", options)
    if model == "attention":
        from bench_sharing import build as build_attention

        predictor = build_attention("attention")
        return Predictor(predictor._model, predictor._processor, model, options)
    sys.path.append(str(Path(__file__).parents[1]))
    from fixtures.models import build_tiny

    return Predictor(*build_tiny(), model, options)


class Watch:
    """Looks at the memory of this process every so often."""

    def __init__(self) -> None:
        self.own_mb, self._count = 0.0, 0

    def look(self, *_: object) -> None:
        self._count += 1
        if self._count % LOOK_EVERY == 1 and Path("/proc/self/status").exists():
            lines = Path("/proc/self/status").read_text().splitlines()
            own_kb = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.own_mb = max(self.own_mb, own_kb / 1024)


def follow(predictor, video, watch: Watch, folder: Path) -> int:
    """Follow a disc with the predictor alone; every mask goes to disk."""
    import numpy as np

    from napari_virst.records import Anchor, Job, Query, Span

    job = Job(Query("", name="disc"), Span(0, video.shape[0]), (Anchor(0, video.disc(0)),))
    num_results = 0
    with (folder / "masks").open("wb") as masks:
        for result in predictor.run(video, job, lambda: False):
            packed = np.packbits(result.mask).tobytes()
            masks.seek(result.frame * len(packed))
            masks.write(packed)
            num_results += 1
            watch.look()
    return num_results


def annotate(predictor, video, watch: Watch, folder: Path) -> int:
    """Follow a disc in a session, correct the middle, follow again."""
    from napari_virst.engine.runner import InlineRunner
    from napari_virst.records import Anchor, Query
    from napari_virst.session.session import AnnotationSession

    middle = video.shape[0] // 2
    with AnnotationSession(video, lambda: predictor, InlineRunner(), folder / "project") as session:
        session.frame_changed.connect(watch.look)
        session.failed.connect(fail)
        track = session.ask(Query("", name="disc"), anchors=(Anchor(0, video.disc(0)),))
        session.give_mask(track, middle, video.disc(middle))
        session.repropagate(track, middle)
        return int((track.masks.provenances > 0).sum())


def fail(message: str) -> None:
    raise SystemExit(message)


def run_child(path: str, model: str, num_frames: int, cache_mb: int) -> dict[str, float]:
    import torch
    from bench_sharing import Discs

    torch.set_num_threads(1)
    predictor, video, watch = build(model, cache_mb), Discs(num_frames, "long", SIZE), Watch()
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        num_results = (follow if path == "engine" else annotate)(predictor, video, watch, Path(folder))
    return {
        "num_results": num_results,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "own_mb": watch.own_mb,
        "seconds": time.monotonic() - start_s,
    }


def segment(model: str, num_frames: int) -> dict[str, float]:
    """Run the command line on a video that is drawn first."""
    from bench_memory import draw, measure

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "long.tif"
        mask = draw(video, num_frames, SIZE)
        command = [sys.executable, "-m", "napari_virst", "segment", str(video), "--correct", f"0={mask}"]
        peak_mb, seconds = measure([*command, "-o", str(Path(folder) / "out"), "--model", model, "--device", "cpu"])
    return {"num_results": num_frames, "peak_mb": peak_mb, "own_mb": float("nan"), "seconds": seconds}


def run_in_process(options: argparse.Namespace, path: str, num_frames: int) -> dict[str, float]:
    if path == "segment":
        return segment(options.model, num_frames)
    command = [sys.executable, __file__, "--child", "--frames", str(num_frames), "--model", options.model]
    command += ["--cache-mb", str(options.cache_mb), "--paths", path]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--model", choices=["compact", "tiny", "attention"], default="compact")
    parser.add_argument("--paths", nargs="+", choices=["engine", "session", "segment"], default=["engine", "session"])
    parser.add_argument("--cache-mb", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_child(options.paths[0], options.model, options.frames[0], options.cache_mb)))
        return
    rows = []
    print("| model | path | frames | peak MB | over the first | own MB | over the first | s |")
    print("|---|---|---|---|---|---|---|---|")
    for path in options.paths:
        first = None
        for num_frames in options.frames:
            row = {"path": path, "num_frames": num_frames, **run_in_process(options, path, num_frames)}
            rows.append(row)
            first = first or row
            ratios = row["peak_mb"] / first["peak_mb"], row["own_mb"] / first["own_mb"]
            print(
                f"| {options.model} | {path} | {num_frames} | {row['peak_mb']:.0f} | {ratios[0]:.2f} | "
                f"{row['own_mb']:.0f} | {ratios[1]:.2f} | {row['seconds']:.0f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
