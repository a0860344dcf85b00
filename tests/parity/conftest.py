"""Recorded numbers of the reference: where they lie and how their weights are read. The option is in tests/conftest.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_virst.model.config import FusionConfig, VideoTowerConfig, qwen2_config
from napari_virst.model.fusion import InitialFusion, Prompter
from napari_virst.model.language import LanguageModel
from napari_virst.model.video_tower import Projector, VideoTower

SHARED_PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
MISSING = "the recorded reference numbers are not beside the repository (shared/parity); give --parity-dir"
PREFIX = "base_model.model."


def read_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """The state dict in the published layout, float32: from the file, or rebuilt from the recipe of its numbers."""
    if (path := folder / "ckpt_fp16.pt").exists():
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
        return {name: value.float() for name, value in state.items()}
    state = {}
    for row in (folder / "weights_recipe.tsv").read_text().splitlines()[1:]:
        name, shape_text, offset, scale, seed, digest = row.split("\t")
        shape = tuple(int(n) for n in shape_text.split(",") if n)
        steps = np.random.RandomState(int(seed)).randint(-3, 4, size=shape)  # noqa: NPY002 - as the recipe says
        values = np.asarray(float(offset) + steps * float(scale), dtype="<f4")
        assert sha256(values.tobytes()).hexdigest() == digest, f"the recipe of {name} gave other numbers than recorded"
        state[name] = torch.from_numpy(values)
    return state


def merge_lora(state: dict[str, torch.Tensor], scaling: float) -> dict[str, torch.Tensor]:
    """Weights with their low-rank updates added, without the wrapper's prefix and without the adapters."""
    merged = {name.removeprefix(PREFIX): value for name, value in state.items() if ".lora_" not in name}
    for name in (n for n in state if ".lora_A." in n):
        target = name.removeprefix(PREFIX).split(".lora_A.")[0] + ".weight"
        merged[target] = merged[target] + scaling * state[name.replace(".lora_A.", ".lora_B.")] @ state[name]
    return merged


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
    def checkpoint(self) -> dict[str, torch.Tensor]:
        """Names and values as published (float32)."""
        return read_checkpoint(self.source)

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return merge_lora(self.checkpoint, self.config["lora"]["scaling"])

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The weights under a prefix, without it."""
        return {name[len(prefix) :]: value for name, value in self.weights.items() if name.startswith(prefix)}

    def array(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.outputs[name])

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
    def video_tower(self) -> VideoTower:
        return self._filled(VideoTower(self.tower_config), "model.vision_tower.vision_tower.encoder.")

    @cached_property
    def projector(self) -> Projector:
        return self._filled(Projector(self.tower_config, self.text_config.hidden_size), "model.mm_projector.")

    @cached_property
    def language(self) -> LanguageModel:
        tokens = self.config["tokens"]
        ids = {"st_token_id": tokens["seg_token_id"], "image_token_id": tokens["image_token_id"]}
        language = LanguageModel(self.text_config, **ids).eval()
        wanted = set(language.model.state_dict())
        language.model.load_state_dict({k: v for k, v in self.part("model.").items() if k in wanted}, strict=True)
        return language

    @cached_property
    def initial_fusion(self) -> InitialFusion:
        return self._filled(InitialFusion(*self._fusion_sizes), "model.initial_seg_fusion_module.")

    @cached_property
    def prompter(self) -> Prompter:
        return self._filled(Prompter(*self._fusion_sizes), "model.seg_prompter.")

    @property
    def _fusion_sizes(self) -> tuple[FusionConfig, int, int]:
        return self.fusion_config, self.text_config.hidden_size, self.config["st_fusion"]["token_dim"]

    def _filled(self, module, prefix: str):
        module.load_state_dict(self.part(prefix), strict=True)
        return module.eval()


# One object for all tests, so that weights are read once.
recording_of = cache(Recording)


def parity_dir(config: pytest.Config) -> Path | None:
    """The folder that was asked for, or None."""
    given = config.getoption("--parity-dir", default=None)
    return Path(given) if given else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`recording` runs over every run with all arrays, `any_recording` over the run at official geometry as well."""
    given = parity_dir(metafunc.config)
    folders = [given] if given else [SHARED_PARITY / "dev", SHARED_PARITY / "dev_long"]
    recordings = [recording_of(folder, folder) for folder in folders]
    native = SHARED_PARITY / "dev_native"
    for fixture, cases in {
        "recording": recordings,
        "any_recording": recordings if given else [*recordings, recording_of(native, SHARED_PARITY / "dev")],
    }.items():
        if fixture in metafunc.fixturenames:
            present = [r for r in cases if (r.folder / "outputs.npz").exists()]
            params = present or [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))]
            metafunc.parametrize(fixture, params, ids=[r.name for r in present] or ["absent"], scope="session")


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
        row[0].removeprefix(PREFIX): tuple(int(n) for n in row[1].split(",") if n)
        for row in rows
        if row[0].startswith(PREFIX)
    }


@pytest.fixture(scope="session")
def official_config() -> dict:
    """Published sizes."""
    return json.loads(shared_file("official_config.json").read_text())
