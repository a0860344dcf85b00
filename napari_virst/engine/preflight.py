"""How much memory a model needs, from its sizes alone, and what to choose where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch

from napari_virst.errors import DeviceError
from napari_virst.model.virst import VirstModel

if TYPE_CHECKING:
    from napari_virst.model.config import VirstConfig

Quantization = Literal["8bit", "4bit"]

BYTES_PER_GB = 1e9
LANGUAGE_LAYERS = "language.model.layers."
# bitsandbytes: one byte and a scale per row; half a byte and a float32 scale per 64 numbers.
_BYTES_PER_QUANTIZED = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
# The CUDA context with the kernels of torch, and what the allocator cannot reuse.
_CONTEXT_BYTES, _SLACK = 0.6e9, 1.1
_NUM_PROMPT_IDS = 128


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes on the device that runs the model."""

    weights_bytes: float
    working_bytes: float
    """Most that grounding or following holds beside the weights; does not grow with the video."""

    @property
    def total_gb(self) -> float:
        """Both, in GB of 1e9 bytes."""
        return (self.weights_bytes + self.working_bytes) / BYTES_PER_GB


@dataclass(frozen=True)
class Preflight:
    """Whether a model fits, said before anything is loaded."""

    needs_gb: float
    has_gb: float
    choices: tuple[str, ...]
    """What to choose instead, each with what it needs; empty where the model fits."""

    @property
    def fits(self) -> bool:
        """Whether there is room."""
        return self.needs_gb <= self.has_gb

    @property
    def line(self) -> str:
        """One sentence for a person."""
        have = f"you have {self.has_gb:.1f}" if self.has_gb else "you have no GPU"
        said = f"needs {self.needs_gb:.1f} GB of GPU memory; {have}"
        return said if self.fits else f"{said}; choose {', or '.join(self.choices)}"


def memory_needs(
    config: VirstConfig, dtype: torch.dtype, quantization: Quantization | None = None, *, offload: bool = False
) -> MemoryNeeds:
    """Return what a model of these sizes needs on its device.

    Parameters
    ----------
    config
        Sizes; the weights are counted on the meta device.
    dtype
        Of weights and activations.
    quantization
        Of the language model's layers.
    offload
        Keep all but one of the language model's layers in main memory.
    """
    layers, linear, others, num_layers = _count(config.to_json_string())
    per_number = _BYTES_PER_QUANTIZED[quantization] if quantization else dtype.itemsize
    layer_bytes = linear * per_number + (layers - linear) * dtype.itemsize
    if offload:
        layer_bytes *= min(1.0, 2 / num_layers)  # one that computes, one that arrives
    return MemoryNeeds(layer_bytes + others * dtype.itemsize, _working_bytes(config, dtype.itemsize))


def preflight(
    config: VirstConfig,
    has_gb: float,
    dtype: torch.dtype = torch.bfloat16,
    quantization: Quantization | None = None,
    *,
    offload: bool = False,
) -> Preflight:
    """Compare what a model needs with what there is, and say what would fit."""
    needs_gb = memory_needs(config, dtype, quantization, offload=offload).total_gb
    others: list[tuple[str, float]] = []
    if dtype == torch.float32:
        others.append(("--dtype bf16", memory_needs(config, torch.bfloat16).total_gb))
    half = torch.bfloat16 if dtype == torch.float32 else dtype
    others += [
        ("--quantize 8bit", memory_needs(config, half, "8bit").total_gb),
        ("--quantize 4bit", memory_needs(config, half, "4bit").total_gb),
        ("--offload (slower)", memory_needs(config, half, offload=True).total_gb),
    ]
    fitting = [f"{name} ({gb:.1f} GB)" for name, gb in others if gb <= min(has_gb, needs_gb)]
    choices = () if needs_gb <= has_gb else (*fitting, "--device cpu", "the compact model")
    return Preflight(needs_gb, has_gb, choices)


def check_fits(
    config: VirstConfig, device: torch.device, dtype: torch.dtype, quantization: Quantization | None, offload: bool
) -> Preflight | None:
    """Refuse a model that would not fit on a CUDA device before its first byte is loaded.

    Raises
    ------
    DeviceError
        When it does not fit; the message says what does.
    """
    if device.type != "cuda":
        return None
    free_bytes, _ = torch.cuda.mem_get_info(device)
    flight = preflight(config, free_bytes / BYTES_PER_GB, dtype, quantization, offload=offload)
    if not flight.fits:
        raise DeviceError(f"The model {flight.line}.")
    return flight


def count_parameters(config: VirstConfig) -> int:
    """Return the number of parameters of a model of these sizes."""
    layers, _, others, _ = _count(config.to_json_string())
    return layers + others


@lru_cache(maxsize=8)
def _count(config_text: str) -> tuple[int, int, int, int]:
    """Numbers in the language model's layers, in their matrices, everywhere else; and the number of layers."""
    import json

    from napari_virst.model.config import VirstConfig

    config = VirstConfig(**json.loads(config_text))
    with torch.device("meta"):
        sizes = {name: (value.numel(), value.ndim) for name, value in VirstModel(config).named_parameters()}
    layers = {name: size for name, size in sizes.items() if name.startswith(LANGUAGE_LAYERS)}
    in_layers = sum(count for count, _ in layers.values())
    linear = sum(count for count, ndim in layers.values() if ndim == 2)
    everything = sum(count for count, _ in sizes.values())
    return in_layers, linear, everything - in_layers, int(config.text_config.num_hidden_layers)


def _working_bytes(config: VirstConfig, itemsize: int) -> float:
    """Sum what lives at the same time; the stages follow each other, so the largest counts."""
    video, text, segmenter = config.video_config, config.text_config, config.segmenter_config
    cells = (segmenter.image_size // segmenter.stride) ** 2
    # Every level of a frame holds as many numbers as 1 or 2 coarse maps; kept for the prompter's frames.
    kept = config.num_segmentation_frames * 4 * segmenter.num_channels * cells * itemsize
    kept += config.num_vlm_frames * 3 * video.image_size**2 * 4
    tokens = config.num_vlm_frames * video.patch_grid**2
    tower = tokens * video.hidden_size * itemsize * (4 + 2 * video.mlp_ratio)
    num_clips = max(1, config.num_vlm_frames // video.num_frames_per_clip)
    similarity = num_clips * (tokens / num_clips / 2) ** 2 * 4
    prompt = num_clips * video.num_tokens_per_clip + _NUM_PROMPT_IDS
    language = prompt * (3 * text.intermediate_size + 6 * text.hidden_size) * itemsize
    # Hiera's first stage: 16 times the coarse cells at its first width, with the MLP's fourfold width twice.
    encoder = 16 * cells * segmenter.num_channels * itemsize * 8
    num_remembered = config.max_anchors + config.num_fifo_frames
    memory = cells * num_remembered * segmenter.num_channels * 4 * 4  # rotary in float32
    largest = max(tower + similarity, language, encoder, memory)
    return float((kept + largest) * _SLACK + _CONTEXT_BYTES)
