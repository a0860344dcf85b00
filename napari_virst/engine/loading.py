"""Finds a model and a device, with errors that say what to do."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from napari_virst.engine.preflight import BYTES_PER_GB, LANGUAGE_LAYERS, check_fits, memory_needs
from napari_virst.errors import CheckpointError, DeviceError, VirstError
from napari_virst.model.tensor_files import is_hub_id, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_virst.engine.preflight import Quantization
    from napari_virst.model.config import VirstConfig
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel

BUNDLED = "compact"
DtypeName = Literal["auto", "bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_FOLDER_FILES = ["*.json", "*.safetensors", "merges.txt"]
_WRONG_WEIGHTS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


def bundled_folder() -> Path:
    """Return the folder of the model that ships in the package."""
    return Path(str(files("napari_virst"))) / "weights" / BUNDLED


def pick_device(device: str = "auto") -> torch.device:
    """Return the device that ``device`` names; ``"auto"`` takes a GPU where there is one.

    Raises
    ------
    DeviceError
        When there is no such device on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f'The device must be one that this machine has; got "{device}"; choose "auto" or "cpu".'
        ) from error
    return chosen


def pick_dtype(dtype: DtypeName, device: torch.device, config: VirstConfig) -> torch.dtype:
    """Return the dtype of the weights; ``"auto"``: as they are stored on CUDA (bfloat16 as converted), else float32."""
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise DeviceError(f'dtype must be auto, {", ".join(_DTYPES)}; got "{dtype}"; choose one.')
        return _DTYPES[dtype]
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else None
    return stored or torch.float32 if device.type == "cuda" else torch.float32


def model_folder(model: str | Path) -> Path:
    """Return the folder of ``"compact"``, of a path, or of owner/name on Hugging Face, which is downloaded once.

    Raises
    ------
    CheckpointError
        When there is no such folder, or it holds another kind of model.
    """
    if str(model) == BUNDLED:
        folder = bundled_folder()
    elif is_hub_id(str(model)) and not Path(model).exists():
        folder = local_path(model, patterns=_FOLDER_FILES)
    else:
        folder = Path(model).expanduser()
    _check_folder(folder)
    return folder


def read_config(folder: Path) -> VirstConfig:
    """Read a model's sizes without its weights.

    Raises
    ------
    CheckpointError
        When they cannot be read.
    """
    from napari_virst.model.config import VirstConfig

    try:
        config: VirstConfig = VirstConfig.from_pretrained(folder, local_files_only=True)
    except (*_WRONG_WEIGHTS, TypeError) as error:
        raise CheckpointError(f'The model in "{folder}" cannot be loaded: {error}') from error
    return config


def load_model(
    model: str | Path = BUNDLED,
    *,
    device: torch.device | None = None,
    dtype: DtypeName = "auto",
    quantization: Quantization | None = None,
    offload: bool = False,
) -> tuple[VirstModel, VirstProcessor, str]:
    """Load a model onto a device: safetensors only, no code from the folder is run, no vocabulary head.

    Parameters
    ----------
    model
        ``"compact"``, a folder, or owner/name on Hugging Face.
    device
        Where it shall run; the CPU where None.
    dtype
        ``"auto"``: on CUDA as stored (bfloat16 as converted), elsewhere float32.
    quantization
        ``"8bit"`` or ``"4bit"``: the language model's layers through bitsandbytes, on CUDA.
    offload
        Keep in main memory those of the language model's layers that do not fit on the device (through accelerate).

    Raises
    ------
    CheckpointError
        When the folder is missing, holds another kind of model, or its weights do not fit its configuration.
    DeviceError
        When the model does not fit, or a library that a choice needs is not installed.
    """
    folder = model_folder(model)
    config = read_config(folder)
    where = device or torch.device("cpu")
    weights_dtype = pick_dtype(dtype, where, config)
    how = _placement(config, where, weights_dtype, quantization, offload)
    check_fits(config, where, weights_dtype, quantization, offload)
    virst = _load_weights(folder, {"dtype": weights_dtype, **how})
    processor = _load_processor(folder, config)
    placed = virst if "device_map" in how else virst.to(where)
    return placed, processor, BUNDLED if str(model) == BUNDLED else folder.name


def _load_weights(folder: Path, how: dict[str, Any]) -> VirstModel:
    from napari_virst.model.virst import VirstModel

    try:
        with _no_progress_bar():
            virst, report = VirstModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **how
            )
    except VirstError:
        raise
    except _WRONG_WEIGHTS as error:
        raise CheckpointError(f'The model in "{folder}" cannot be loaded: {error}') from error
    wrong = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if wrong:
        raise CheckpointError(
            f'The weights in "{folder}" must fit its config.json; {len(wrong)} names do not, first {wrong[0]}; '
            "convert or download the model again."
        )
    return virst  # type: ignore[no-any-return]


def _load_processor(folder: Path, config: VirstConfig) -> VirstProcessor:
    """Load the folder's processor, or one that reads pixels alone where it was converted without a tokenizer."""
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.wordless import WordlessProcessor

    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        return WordlessProcessor.of(config, str(folder))
    try:
        processor: VirstProcessor = VirstProcessor.from_pretrained(folder, local_files_only=True)
    except (*_WRONG_WEIGHTS, TypeError) as error:
        raise CheckpointError(f'The processor in "{folder}" cannot be loaded: {error}') from error
    return processor


def _placement(
    config: VirstConfig, device: torch.device, dtype: torch.dtype, quantization: Quantization | None, offload: bool
) -> dict[str, Any]:
    """Return what from_pretrained needs to know of quantization and offloading."""
    how: dict[str, Any] = {}
    if quantization is not None:
        how["quantization_config"] = _quantization_config(device, dtype, quantization)
        how["device_map"] = {"": _spelled(device)}
    if offload:
        if quantization is not None:
            raise DeviceError("Choose quantization or offloading; got both; 4bit needs least where a GPU computes it.")
        _require("accelerate", "offloading")
        how["device_map"] = offload_map(config, device, dtype, _free_bytes(device))
    return how


def _quantization_config(device: torch.device, dtype: torch.dtype, quantization: Quantization) -> Any:  # noqa: ANN401
    if quantization not in ("8bit", "4bit"):
        raise DeviceError(f'quantization must be "8bit" or "4bit"; got "{quantization}"; choose one.')
    if device.type != "cuda":
        raise DeviceError(f'{quantization} weights must be on a CUDA device; got "{device}"; leave quantization out.')
    _require("bitsandbytes", f"{quantization} weights")
    _require("accelerate", f"{quantization} weights")
    from transformers import BitsAndBytesConfig

    rest = ["video_tower", "projector", "initial_fusion", "prompter", "segmenter"]
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=rest)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=rest
    )


def offload_map(config: VirstConfig, device: torch.device, dtype: torch.dtype, free_bytes: float) -> dict[str, str]:
    """Return a device map that leaves the last of the language model's layers in main memory, as few as will do.

    Only these layers move: all else is asked for by other doors than ``forward``, where no hook could fetch it.
    """
    num_layers = config.text_config.num_hidden_layers
    whole, least = memory_needs(config, dtype), memory_needs(config, dtype, offload=True)
    resident = min(2, num_layers)
    layer_bytes = (whole.weights_bytes - least.weights_bytes) / max(1, num_layers - resident)
    spare = free_bytes - least.total_gb * BYTES_PER_GB
    num_kept = num_layers if not layer_bytes else max(0, min(num_layers, math.floor(spare / layer_bytes)))
    parts = ["video_tower", "projector", "initial_fusion", "prompter", "segmenter"]
    parts += [f"language.model.{part}" for part in ("embed_tokens", "norm", "rotary_emb")]
    here = _spelled(device)
    layers = {f"{LANGUAGE_LAYERS}{i}": here if i < num_kept else "cpu" for i in range(num_layers)}
    return dict.fromkeys(parts, here) | layers


def _spelled(device: torch.device) -> str:
    """Return the device as text: accelerate hands it to safetensors, which takes no torch.device."""
    return f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)


def _free_bytes(device: torch.device) -> float:
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else math.inf


def _require(package: str, purpose: str) -> None:
    if find_spec(package) is None:
        raise DeviceError(f'{purpose} must have {package}; it is not installed; run: pip install "napari-virst[full]"')


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers' own progress bar off the terminal: ours says "waking the model"."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _check_folder(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f'A model must be "compact" or a folder with a config.json; got "{folder}"; '
            "give the folder that napari-virst convert wrote."
        )
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f'"{config}" must be a JSON object; it cannot be read: {error}') from error
    if kind != "virst":
        raise CheckpointError(f'The model in "{folder}" must be of type "virst"; got "{kind}"; choose another folder.')
