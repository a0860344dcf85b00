"""Recorded numbers of the reference: where they lie, and our model with their weights.

The option ``--parity-dir`` is in ``tests/conftest.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig, Sam2VideoPromptEncoderConfig

from napari_virst.model.checkpoint import PEFT_PREFIX, merge_lora, read_published, rename
from napari_virst.model.config import FusionConfig, VideoTowerConfig, VirstConfig, qwen2_config
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer
from napari_virst.model.segmenter_config import SegmenterConfig
from napari_virst.model.virst import VirstModel

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED_PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
MISSING = "the recorded reference numbers are not beside the repository (shared/parity); give --parity-dir"


def rebuild_from_recipe(path: Path) -> dict[str, torch.Tensor]:
    """The published layout from seeds and scales alone; every tensor is checked against its recorded hash."""
    state = {}
    for row in path.read_text().splitlines()[1:]:
        name, shape_text, offset, scale, seed, digest = row.split("\t")
        shape = tuple(int(n) for n in shape_text.split(",") if n)
        steps = np.random.RandomState(int(seed)).randint(-3, 4, size=shape)
        values = np.asarray(float(offset) + steps * float(scale), dtype="<f4")
        assert sha256(values.tobytes()).hexdigest() == digest, f"the recipe of {name} gave other numbers than recorded"
        state[name.removeprefix(PEFT_PREFIX)] = torch.from_numpy(values)
    return state


def sam2_config_of(sizes: dict, fusion_width: int) -> Sam2VideoConfig:
    """The segmenter's sizes, from the names of the recording to those of transformers."""
    cells, stage_widths = sizes["feature_size"], sizes["embed_dim_per_stage"]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": sizes["embed_dim"],
        "num_attention_heads": sizes["num_heads_per_stage"][0],
        "image_size": [sizes["image_size"]] * 2,
        "num_query_pool_stages": sizes["q_pool_stages"],
        "num_attention_heads_per_stage": sizes["num_heads_per_stage"],
        "window_positional_embedding_background_size": sizes["window_pos_embed_bkg_spatial_size"],
        "query_stride": sizes["q_stride"],
        "mlp_ratio": float(sizes["mlp_ratio"]),
        "layer_norm_eps": sizes["layernorm_eps"],
    } | {
        name: sizes[name]
        for name in ("blocks_per_stage", "embed_dim_per_stage", "window_size_per_stage", "global_attention_blocks")
    }
    return Sam2VideoConfig(
        image_size=sizes["image_size"],
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": stage_widths[::-1],
            "backbone_feature_sizes": [[cells * 4] * 2, [cells * 2] * 2, [cells] * 2],
            "fpn_hidden_size": sizes["fpn_dim"],
            "fpn_top_down_levels": sizes["fpn_top_down_levels"],
            "num_feature_levels": len(stage_widths) - sizes["scalp"],
        },
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=fusion_width, image_size=sizes["image_size"], patch_size=sizes["image_size"] // cells
        ),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=fusion_width,
            mlp_dim=sizes["mask_decoder_mlp_dim"],
            num_hidden_layers=sizes["mask_decoder_depth"],
            num_attention_heads=sizes["mask_decoder_heads"],
            iou_head_depth=sizes["iou_head_depth"],
            iou_head_hidden_dim=sizes["iou_head_hidden"],
            dynamic_multimask_via_stability=sizes["dynamic_multimask_via_stability"],
            dynamic_multimask_stability_delta=sizes["stability_delta"],
            dynamic_multimask_stability_thresh=sizes["stability_thresh"],
        ),
        num_maskmem=sizes["num_maskmem"],
        max_cond_frame_num=sizes["max_cond_frames_in_attn"],
        max_object_pointers_in_encoder=sizes["max_obj_ptrs_in_encoder"],
        sigmoid_scale_for_mem_enc=sizes["sigmoid_scale_for_mem_enc"],
        sigmoid_bias_for_mem_enc=sizes["sigmoid_bias_for_mem_enc"],
        memory_attention_num_layers=sizes["memory_attention_layers"],
        memory_attention_num_attention_heads=sizes["memory_attention_heads"],
        memory_attention_feed_forward_hidden_size=sizes["memory_attention_ff"],
        memory_attention_rope_feat_sizes=sizes["rope_feat_sizes"],
        rope_parameters={"rope_type": "axial", "rope_theta": sizes["rope_theta"]},
        memory_encoder_output_channels=sizes["mem_dim"],
        memory_fuser_num_layers=sizes["fuser_layers"],
    )


@dataclass(frozen=True)
class Recording:
    """One recorded run of the reference, with our modules filled with its weights."""

    folder: Path
    source: Path
    """Folder of config.json, inputs and weights; another one only for the run at official geometry."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_native(self) -> bool:
        """Whether sizes of images and grids are the published ones."""
        return self.folder != self.source

    @cached_property
    def config(self) -> dict:
        config = json.loads((self.source / "config.json").read_text())
        if self.is_native:
            config["vision_tower"]["image_size"] = 448
            config["sam2"] |= {"image_size": 1024, "feature_size": 64, "rope_feat_sizes": [64, 64]}
            config["st_fusion"]["grid_hw"] = 8
        return config

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.source / "inputs.npz"))

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "outputs.npz"))

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """Names as published without the wrapper's prefix, values as stored, LoRA apart."""
        path = self.source / "ckpt_fp16.pt"
        return read_published(path) if path.exists() else rebuild_from_recipe(self.source / "weights_recipe.tsv")

    def array(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.outputs[name])

    def array_or(self, name: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """A recorded array, or our own where the recording holds only a part of it."""
        return self.array(name) if name in self.outputs else compute()

    def assert_close(self, found: torch.Tensor, name: str, atol: float) -> None:
        """Compare with a recorded array, or with every second row and column where only these are recorded."""
        if name not in self.outputs:
            name, found = f"{name}_s2", found[..., ::2, ::2]
        torch.testing.assert_close(found, self.array(name), rtol=0, atol=atol)

    def resized(self, frames: np.ndarray, side: int, resample: Image.Resampling) -> np.ndarray:
        return np.stack([np.asarray(Image.fromarray(frame).resize((side, side), resample)) for frame in frames])

    @cached_property
    def tower_config(self) -> VideoTowerConfig:
        tower, projector = self.config["vision_tower"], self.config["projector"]
        assert projector["metric_heads"] == tower["num_attention_heads"]
        return VideoTowerConfig(
            image_size=tower["image_size"],
            patch_size=tower["patch_size"],
            hidden_size=tower["hidden_size"],
            num_hidden_layers=tower["num_blocks_run"],
            num_attention_heads=tower["num_attention_heads"],
            mlp_ratio=float(tower["mlp_ratio"]),
            num_frames_per_clip=tower["local_num_frames"],
            layer_norm_eps=tower["block_layernorm_eps"],
            final_layer_norm_eps=tower["final_layernorm_eps"],
            num_tokens_per_clip=projector["tokens_per_clip"],
        )

    @cached_property
    def fusion_config(self) -> FusionConfig:
        fusion = self.config["st_fusion"]
        return FusionConfig(
            num_st_tokens=fusion["num_seg_tokens"],
            num_prompter_layers=fusion["prompter_layers"],
            num_prompter_heads=fusion["prompter_heads"],
            num_initial_heads=fusion["initial_fusion_heads"],
        )

    @cached_property
    def text_config(self):
        llm = self.config["llm"]
        names = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
        return qwen2_config(
            rope_theta=llm["rope_theta"],
            rms_norm_eps=llm["rms_norm_eps"],
            hidden_act=llm["hidden_act"],
            tie_word_embeddings=llm["tie_word_embeddings"],
            **{name: llm[name] for name in names.split()},
        )

    @cached_property
    def virst_config(self) -> VirstConfig:
        """The whole model; memory is not rounded, as in the tight comparisons."""
        tokens = self.config["tokens"]
        sam2_config = sam2_config_of(self.config["sam2"], self.config["st_fusion"]["token_dim"])
        return VirstConfig(
            video_config=self.tower_config,
            text_config=self.text_config,
            st_fusion_config=self.fusion_config,
            segmenter_config=SegmenterConfig(sam2_config=sam2_config, round_memory_to_bf16=False),
            st_token_id=tokens["seg_token_id"],
            image_token_id=tokens["image_token_id"],
            max_anchors=self.config["sam2"]["max_cond_frames_in_attn"],
            num_fifo_frames=self.config["sam2"]["num_maskmem"] - 1,
        )

    @cached_property
    def model(self) -> VirstModel:
        """The whole model with the recorded weights, LoRA merged; every name must be used."""
        weights, _ = rename(merge_lora(self.weights, self.config["lora"]["scaling"]))
        model = VirstModel(self.virst_config)
        model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
        return model.eval()

    @cached_property
    def clips(self) -> torch.Tensor:
        """(n, f, 3, S, S): the video tower's input, from the recorded pixels."""
        frames = self.inputs["video_frames_u8"][self.inputs["vlm_frame_ids"]]
        return self.processor.video_pixels(frames).unflatten(0, (-1, self.tower_config.num_frames_per_clip))

    @cached_property
    def tower_features(self) -> torch.Tensor:
        """(n, N, C): our own output of the video tower."""
        with torch.no_grad():
            return self.model.video_tower(self.clips)

    @cached_property
    def visual_tokens(self) -> torch.Tensor:
        """(1, V, D): the language model's visual tokens, recorded or our own."""
        tokens = self.array_or("mm_projector_tokens", lambda: self.model.projector(self.tower_features))
        return tokens.flatten(0, 1)[None]

    @cached_property
    def coarse_maps(self) -> torch.Tensor:
        """(1, T, C, h, w): the segmenter's maps of the segmentation frames, from the recorded pixels."""
        frames = self.inputs["video_frames_u8"][self.inputs["sam_frame_ids"]]
        pixels = self.processor.segmenter_pixels(frames, "prompter")
        with torch.no_grad():
            return torch.cat([self.model.segmenter.encode(p[None]).coarse_BCHW for p in pixels])[None]

    @cached_property
    def processor(self) -> VirstProcessor:
        """For pixels alone: the recording has no tokenizer."""
        return VirstProcessor(
            build_word_tokenizer([]),
            video_size=self.config["vision_tower"]["image_size"],
            segmenter_size=self.config["sam2"]["image_size"],
            resize_preset="reference",
        )


# One object for all tests, so that weights are read once.
recording_of = cache(Recording)


def parity_dir(config: pytest.Config) -> Path | None:
    """The folder that was asked for, or None."""
    given = config.getoption("--parity-dir", default=None)
    return Path(given) if given else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``recording``: runs with all arrays; ``native_recording``: at official geometry; ``any_recording``: both."""
    given = parity_dir(metafunc.config)
    if given and not (given / "outputs.npz").exists():
        raise pytest.UsageError(f"--parity-dir must be the folder of a recorded run; {given} has no outputs.npz")
    folders = [given] if given else [SHARED_PARITY / "dev", SHARED_PARITY / "dev_long"]
    small = [recording_of(folder, folder) for folder in folders]
    native = [] if given else [recording_of(SHARED_PARITY / "dev_native", SHARED_PARITY / "dev")]
    cases = {"recording": small, "native_recording": native, "any_recording": [*small, *native]}
    for fixture in cases.keys() & set(metafunc.fixturenames):
        present = [r for r in cases[fixture] if (r.folder / "outputs.npz").exists()]
        absent = pytest.param(None, id="absent", marks=pytest.mark.skip(reason=MISSING))
        metafunc.parametrize(fixture, present or [absent], ids=lambda r: r.name, scope="session")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def shared_file(name: str) -> Path:
    path = SHARED_PARITY / name
    if not path.exists():
        pytest.skip(MISSING)
    return path


@pytest.fixture(scope="session")
def prompt_cases() -> dict:
    """Questions, answers and ids that the reference's tokenizer made of expressions."""
    return json.loads(shared_file("prompt_cases.json").read_text())


@pytest.fixture(scope="session")
def official_tables() -> dict:
    """Choices of frames and anchors by video length."""
    return json.loads(shared_file("official_tables.json").read_text())


@pytest.fixture(scope="session")
def official_constants() -> dict[str, np.ndarray]:
    """Slices of the fixed tables at published sizes."""
    return dict(np.load(shared_file("official_constants.npz")))


@pytest.fixture(scope="session")
def official_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published checkpoint, without the wrapper's prefix."""
    rows = [row.split("\t") for row in shared_file("official_keys.tsv").read_text().splitlines()]
    return {
        row[0].removeprefix(PEFT_PREFIX): tuple(int(n) for n in row[1].split(",") if n)
        for row in rows
        if row[0].startswith(PEFT_PREFIX)
    }


@pytest.fixture(scope="session")
def official_config() -> dict:
    """Published sizes."""
    return json.loads(shared_file("official_config.json").read_text())
