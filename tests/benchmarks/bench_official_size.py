"""The whole predictor at official size with random weights: time to first mask, frames/s, peak memory.

python tests/benchmarks/bench_official_size.py                     # on a GPU: official sizes, bfloat16
python tests/benchmarks/bench_official_size.py --size small        # anywhere: the same architecture made small

For every length of video: one query, the second query on the same video, and four queries one after the other. Weights
are random, so every model anchor is let through and the masks mean nothing; what is computed is what a real checkpoint
computes. Aims at official size: 15 frames/s, memory flat in the number of frames, second query at most half the first.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import BatchFeature

from napari_virst.engine.predictor import Predictor, PredictorOptions
from napari_virst.model.config import FusionConfig, VideoTowerConfig, VirstConfig, qwen2_config
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.segmenter_config import SegmenterConfig
from napari_virst.model.virst import VirstModel
from napari_virst.records import Job, Query, Span

QUERIES = ("the first thing", "the second thing", "the third thing", "the fourth thing")
PROMPT_LENGTH = 110  # ids of a prompt at official size, without visual tokens (prompt_cases.json)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    num_frames: int
    num_queries: int
    first_mask_s: float
    frames_per_s: float
    """Frames of all queries over the whole time, grounding included."""
    second_over_first: float
    """Time of the second query over that of the first; NaN for one query."""
    peak_mb: float


class DriftingFrames:
    """A texture of 854×480 that drifts; a frame is made when it is asked for."""

    def __init__(self, num_frames: int) -> None:
        self.shape = (num_frames, 480, 854, 3)
        self.fingerprint = f"drift-{num_frames}"
        small = np.random.default_rng(0).integers(0, 256, (30, 54, 3), dtype=np.uint8)
        self._texture = np.kron(small, np.ones((16, 16, 1), np.uint8))[:480, :854]

    def __getitem__(self, frame: int) -> np.ndarray:
        return np.roll(self._texture, 3 * frame, axis=1)


class RandomWords(VirstProcessor):
    """Prompts of the official length with random ids: the official tokenizer is not needed to measure."""

    model_config: VirstConfig

    def text_ids(self, expressions) -> BatchFeature:
        config, seed = self.model_config, sum(map(ord, expressions))
        num_st = config.st_fusion_config.num_st_tokens
        words = torch.randint(3, 290, (1, PROMPT_LENGTH - num_st), generator=torch.Generator().manual_seed(seed))
        words[0, 20] = config.image_token_id
        ids_1L = torch.cat([words, torch.full((1, num_st), config.st_token_id)], 1)
        return BatchFeature({"input_ids": ids_1L, "attention_mask": torch.ones_like(ids_1L)})


def small_config() -> VirstConfig:
    """The published architecture, every width and depth cut down; 256 pixels."""
    cells = 16
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [256, 256],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "global_attention_blocks": [3],
        "window_size_per_stage": [8, 4, 16, 8],
    }
    sam2 = {
        "image_size": 256,
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[cells * 4] * 2, [cells * 2] * 2, [cells] * 2],
        },
        "prompt_encoder_config": {"hidden_size": 256, "image_size": 256, "patch_size": 16},
        "memory_attention_rope_feat_sizes": [cells, cells],
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 256,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0},
        "max_cond_frame_num": 3,
    }
    text = qwen2_config(
        vocab_size=301,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return VirstConfig(
        video_config=VideoTowerConfig(image_size=112, hidden_size=32, num_hidden_layers=3, num_attention_heads=4),
        text_config=text,
        st_fusion_config=FusionConfig(),
        segmenter_config=SegmenterConfig(sam2_config=sam2),
        st_token_id=300,
    )


def build(size: str, device: torch.device) -> Predictor:
    """Random weights, straight onto the device in the type they are run in."""
    config = small_config() if size == "small" else VirstConfig.official()
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    with device:
        model = VirstModel(config)
    torch.set_default_dtype(default)
    processor = RandomWords(
        build_word_tokenizer([]),
        video_size=config.video_config.image_size,
        segmenter_size=config.segmenter_config.image_size,
        num_frames_per_clip=config.video_config.num_frames_per_clip,
    )
    processor.model_config = config
    return Predictor(model, processor, size, PredictorOptions(presence_threshold=-1.0, agreement_iou=0.0))


def follow(predictor: Predictor, frames: DriftingFrames, text: str) -> tuple[float, float]:
    """Return the seconds to the first mask and to the last."""
    start_s, first_s = time.monotonic(), None
    for _ in predictor.run(frames, Job(Query(text), Span(0, frames.shape[0])), lambda: False):
        first_s = first_s or time.monotonic() - start_s
    assert first_s is not None
    return first_s, time.monotonic() - start_s


def peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(predictor: Predictor, device: torch.device, num_frames: int, num_queries: int) -> Row:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    frames = DriftingFrames(num_frames)
    frames.fingerprint += f"-{num_queries}"
    times = [follow(predictor, frames, text) for text in QUERIES[:num_queries]]
    total_s = sum(whole for _, whole in times)
    ratio = times[1][1] / times[0][1] if num_queries > 1 else float("nan")
    return Row(num_frames, num_queries, times[0][0], num_frames * num_queries / total_s, ratio, peak_mb(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["official", "small"], default="official")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 500, 2000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 4], choices=range(1, len(QUERIES) + 1))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.size == "official" and device.type != "cuda":
        parser.error("official size needs a GPU with 24 GB or more; give --size small here")
    predictor = build(options.size, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{options.size} size on {name}, {sum(p.numel() for p in predictor._model.parameters()) / 1e6:.0f} M numbers")
    follow(predictor, DriftingFrames(9), "a warm-up")
    print(
        "\n| frames | queries | first mask, s | frames/s | second / first query | peak MB |\n|---|---|---|---|---|---|"
    )
    rows = []
    for num_frames in options.frames:
        for num_queries in options.queries:
            row = measure(predictor, device, num_frames, num_queries)
            rows.append(asdict(row))
            ratio = "" if num_queries == 1 else f"{row.second_over_first:.2f}"
            print(
                f"| {num_frames} | {num_queries} | {row.first_mask_s:.2f} | {row.frames_per_s:.2f} | {ratio} | "
                f"{row.peak_mb:.0f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
