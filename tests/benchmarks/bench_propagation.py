"""Following given masks: our segmenter and memory beside transformers' own Sam2VideoModel session.

python tests/benchmarks/bench_propagation.py [--speed-frames 24] [--memory-frames 200] [--side 512] [--threads 1]
    [--json FILE]

Same random weights (hiera-tiny sizes), same video of SIDE×SIDE, same masks on frame 0, same machine, one run; every
measurement is a process of its own, the two sides in turn. Frames/s leave out the waking of the model and frame 0, and
are frames per second of processor time, which other programs on the machine do not disturb; with one thread this is the
wall clock of an idle machine. Peak memory is the process's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from napari_virst.model.memory import ObjectMemory
from napari_virst.model.segmenter import Segmenter
from napari_virst.model.segmenter_config import SegmenterConfig

DEFAULT_SIDE, STRIDE = 512, 16
READOUT = (
    "memory_attention.",
    "memory_encoder.",
    "memory_temporal_positional_encoding",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "object_pointer_proj.",
    "occlusion_spatial_embedding_parameter",
    "mask_downsample.",
    "temporal_positional_encoding_projection_layer.",
)


def sizes(side: int) -> Sam2VideoConfig:
    """SAM 2.1 hiera-tiny, which is transformers' default, at ``side`` pixels."""
    cells = side // STRIDE
    config = Sam2VideoConfig(
        image_size=side,
        memory_attention_rope_feat_sizes=[cells, cells],
        rope_parameters={"rope_type": "axial", "rope_theta": 10000.0},
        max_cond_frame_num=3,
    )
    config.vision_config.backbone_config.image_size = [side, side]
    config.vision_config.backbone_feature_sizes = [[cells * 4] * 2, [cells * 2] * 2, [cells] * 2]
    config.prompt_encoder_config.image_size = side
    return config


def theirs(side: int = DEFAULT_SIDE) -> Sam2VideoModel:
    torch.manual_seed(0)
    return Sam2VideoModel(sizes(side)).eval()


def ours(side: int = DEFAULT_SIDE) -> Segmenter:
    """The same weights by our names; every one must have its place."""
    state = theirs(side).state_dict()
    named = {f"readout.{name}" if name.startswith(READOUT) else name: value for name, value in state.items()}
    segmenter = Segmenter(SegmenterConfig(sam2_config=sizes(side)))
    missing, unexpected = segmenter.load_state_dict(named, strict=False)
    assert not missing, missing
    assert not unexpected, unexpected
    return segmenter.eval()


class Video:
    """A texture that drifts by two pixels a frame; frames are made when asked for."""

    def __init__(self, num_frames: int, side: int = DEFAULT_SIDE) -> None:
        self.num_frames, self.side = num_frames, side
        self._base = torch.randn(1, 3, side // STRIDE, side // STRIDE, generator=torch.Generator().manual_seed(1))
        self._base = torch.nn.functional.interpolate(self._base, size=(side, side), mode="bilinear")

    def __getitem__(self, frame: int) -> torch.Tensor:
        return self._base.roll((2 * frame, 2 * frame), (2, 3))


def first_masks(num_objects: int, side: int = DEFAULT_SIDE) -> torch.Tensor:
    """(B, 1, S, S) of 0 and 1: boxes side by side."""
    masks, unit = torch.zeros(num_objects, 1, side, side), side / DEFAULT_SIDE
    for i in range(num_objects):
        top, bottom, left, right = (round(unit * n) for n in (100, 220, 20 + 120 * i, 120 + 120 * i))
        masks[i, :, top:bottom, left:right] = 1
    return masks


def follow_ours(video: Video, num_objects: int) -> float:
    """Return the processor seconds from frame 1 on; all objects travel as one batch."""
    segmenter = ours(video.side)
    memory = ObjectMemory(video.num_frames, prefer_user_anchors=False)
    features = segmenter.encode(video[0]).expand(num_objects)
    given = segmenter.decode_given(features, first_masks(num_objects, video.side))
    memory.add_anchor(0, segmenter.remember(features, given))
    start_s = time.process_time()
    for frame in range(1, video.num_frames):
        features = segmenter.encode(video[frame]).expand(num_objects)
        decoded = segmenter.decode_tracked(features, memory.view(frame))
        memory.add_tracked(frame, segmenter.remember(features, decoded))
    return time.process_time() - start_s


def follow_theirs(video: Video, num_objects: int) -> float:
    """Return the processor seconds from frame 1 on; the session holds the video, as its own processor makes it."""
    model = theirs(video.side)
    pixels = torch.cat([video[frame] for frame in range(video.num_frames)])
    side = {"video_height": video.side, "video_width": video.side}
    session = Sam2VideoInferenceSession(video=pixels, dtype=torch.float32, **side)
    del pixels
    for i, mask in enumerate(first_masks(num_objects, video.side)):
        index = session.obj_id_to_idx(i)
        session.add_mask_inputs(index, 0, mask[None])
        session.obj_with_new_inputs.append(i)
    model(session, frame_idx=0)
    start_s = time.process_time()
    for _ in model.propagate_in_video_iterator(session, start_frame_idx=1):
        pass
    return time.process_time() - start_s


def work(whose: str, num_objects: int, num_frames: int, num_threads: int, side: int = DEFAULT_SIDE) -> None:
    """Measure in this process and print one JSON line."""
    torch.set_num_threads(num_threads)
    with torch.inference_mode():
        seconds = {"ours": follow_ours, "theirs": follow_theirs}[whose](Video(num_frames, side), num_objects)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames_per_s": (num_frames - 1) / seconds, "peak_mb": peak_mb}))


def measure(whose: str, num_objects: int, num_frames: int, num_threads: int, side: int) -> dict[str, float]:
    numbers = map(str, (num_objects, num_frames, num_threads, side))
    command = [sys.executable, __file__, "--worker", whose, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(num_objects: int, num_frames: int, num_threads: int, side: int) -> dict[str, float]:
    found = {whose: measure(whose, num_objects, num_frames, num_threads, side) for whose in ("theirs", "ours")}
    theirs_, ours_ = found["theirs"], found["ours"]
    return {
        "num_objects": num_objects,
        "num_frames": num_frames,
        "side": side,
        "their_frames_per_s": theirs_["frames_per_s"],
        "our_frames_per_s": ours_["frames_per_s"],
        "speed_ratio": ours_["frames_per_s"] / theirs_["frames_per_s"],
        "their_peak_mb": theirs_["peak_mb"],
        "our_peak_mb": ours_["peak_mb"],
        "memory_ratio": ours_["peak_mb"] / theirs_["peak_mb"],
    }


def print_row(row: dict[str, float]) -> None:
    print(
        f"| {row['num_objects']} | {row['num_frames']} | {row['their_frames_per_s']:.2f} | "
        f"{row['our_frames_per_s']:.2f} | **{row['speed_ratio']:.2f}** | {row['their_peak_mb']:.0f} | "
        f"{row['our_peak_mb']:.0f} | **{row['memory_ratio']:.2f}** |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed-frames", type=int, default=24)
    parser.add_argument("--memory-frames", type=int, default=200)
    parser.add_argument("--memory-objects", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--side", type=int, default=DEFAULT_SIDE, help="height and width of the video; times 16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], *map(int, options.worker[1:]))
        return
    machine = platform.processor() or platform.machine()
    print(f"{options.side} px, {machine}, {options.threads} of {os.cpu_count()} cores, torch {torch.__version__}\n")
    sides = "transformers, {0} | ours, {0} | ours / theirs"
    print(f"| objects | frames | {sides.format('frames/s')} | {sides.format('MB')} |\n{'|---' * 8}|")
    speeds = [(n, options.speed_frames) for n in (1, 4)] if options.speed_frames else []
    runs = speeds + [(n, options.memory_frames) for n in options.memory_objects]
    rows = []
    for num_objects, num_frames in runs:
        rows.append(compare(num_objects, num_frames, options.threads, options.side))
        print_row(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
