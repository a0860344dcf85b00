"""Peak memory of ``napari-virst segment`` against the length of the video.

    python tests/benchmarks/bench_memory.py [--frames 100 1000] [--size 480 640] [--model compact]

Every run is a process of its own; its peak is what the operating system says of it. The same decoding and writing
without a model runs beside it, so that the ratio tells what following costs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

COPY = """
import sys
from napari_virst.cli.spool import MaskSpool
from napari_virst.io.masks import read_mask, write_label_stack
from napari_virst.io.video import open_video
with open_video(sys.argv[1]) as video, video.reader() as frames:
    mask, spool = read_mask(sys.argv[2], video.shape[1:]), MaskSpool(video.shape)
    for t in range(video.num_frames):
        frames[t]
        spool.put(t, mask)
    write_label_stack(sys.argv[3], spool.label_frames(), video.shape)
"""


def draw(path: Path, num_frames: int, size: tuple[int, int]) -> Path:
    """A textured disc that drifts over a textured ground, one frame in memory at a time; returns its first mask."""
    rng, (height, width) = np.random.default_rng(0), size
    ground = rng.integers(40, 90, size, dtype=np.uint8)
    y, x = np.ogrid[:height, :width]

    def disc(t: int) -> np.ndarray:
        angle = 2 * np.pi * t / 200
        return (y - height / 2 - height / 5 * np.sin(angle)) ** 2 + (x - width / 2 - width / 5 * np.cos(angle)) ** 2 < (
            height / 8
        ) ** 2

    frames = (np.where(disc(t), 200, ground).astype(np.uint8) for t in range(num_frames))
    tifffile.imwrite(path, frames, shape=(num_frames, *size), dtype=np.uint8, metadata={"axes": "TYX"})
    mask = path.with_suffix(".png")
    Image.fromarray(disc(0).astype(np.uint8) * 255).save(mask)
    return mask


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its peak memory in MB and its seconds."""
    start_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, _, usage = os.wait4(process.pid, 0)
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss / 1024, time.monotonic() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640])
    parser.add_argument("--model", default="compact")
    options = parser.parse_args()
    print("| frames | segment, peak MB | s | without model, peak MB | s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for num_frames in options.frames:
            video = Path(name) / f"{num_frames}.tif"
            mask = draw(video, num_frames, tuple(options.size))
            segment = [sys.executable, "-m", "napari_virst", "segment", str(video), "--correct", f"0={mask}"]
            segment += ["-o", str(Path(name) / "out"), "--model", options.model, "--device", "cpu"]
            ours = measure(segment)
            plain = measure([sys.executable, "-c", COPY, str(video), str(mask), str(Path(name) / "copy.tif")])
            print(f"| {num_frames} | {ours[0]:.0f} | {ours[1]:.0f} | {plain[0]:.0f} | {plain[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
