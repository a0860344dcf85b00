"""How a model is made to fit: dtype, quantization, offloading; each with a clear word where it cannot be."""

from __future__ import annotations

import pytest
import torch

from napari_virst.engine import loading
from napari_virst.engine.loading import load_model, offload_map, pick_dtype
from napari_virst.engine.preflight import BYTES_PER_GB, memory_needs
from napari_virst.errors import CheckpointError, DeviceError
from napari_virst.model.config import VirstConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("dtype", "device", "stored", "expected"),
    [
        ("auto", CUDA, torch.bfloat16, torch.bfloat16),
        ("auto", CUDA, torch.float32, torch.float32),
        ("auto", CUDA, None, torch.float32),
        ("auto", CPU, torch.bfloat16, torch.float32),
        ("bf16", CPU, torch.float32, torch.bfloat16),
        ("fp32", CUDA, torch.bfloat16, torch.float32),
    ],
    ids=["gpu-as-converted", "gpu-float32", "gpu-unknown", "cpu", "asked-for-half", "asked-for-full"],
)
def test_dtype_is_as_stored_on_a_gpu_and_full_elsewhere(dtype, device, stored, expected):
    assert pick_dtype(dtype, device, VirstConfig(dtype=stored)) is expected


def test_dtype_is_applied(tiny_model_folder):
    model, _, _ = load_model(tiny_model_folder, dtype="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int4"}, "dtype must be auto"),
        ({"quantization": "4bit"}, "must be on a CUDA device"),
        ({"quantization": "3bit"}, '"8bit" or "4bit"'),
        ({"quantization": "8bit", "device": CUDA}, r"must have bitsandbytes.*napari-virst\[full\]"),
        ({"offload": True}, r"must have accelerate.*napari-virst\[full\]"),
    ],
    ids=["dtype", "quantized-on-cpu", "bits", "no-bitsandbytes", "no-accelerate"],
)
def test_what_cannot_be_is_explained(tiny_model_folder, monkeypatch, options, said):
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(DeviceError, match=said):
        load_model(tiny_model_folder, **options)


def test_quantization_and_offloading_exclude_each_other(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda _: object())
    monkeypatch.setattr(loading, "_quantization_config", lambda *_: None)
    with pytest.raises(DeviceError, match="got both"):
        load_model(tiny_model_folder, quantization="8bit", offload=True)


def test_offloading_moves_layers_of_the_language_model_alone_and_as_few_as_will_do():
    config = VirstConfig.official()
    whole = memory_needs(config, torch.bfloat16).total_gb * BYTES_PER_GB
    on_cpu = {}
    for share in (2.0, 0.8, 0.5, 0.1):
        placed = offload_map(config, CUDA, torch.bfloat16, share * whole)
        moved = {name for name, where in placed.items() if where == "cpu"}
        assert all(name.startswith("language.model.layers.") for name in moved)
        on_cpu[share] = len(moved)
    assert on_cpu[2.0] == 0
    assert 0 < on_cpu[0.8] < on_cpu[0.5] < on_cpu[0.1] == 28


def test_offload_map_names_every_part():
    from napari_virst.model.virst import VirstModel

    config = VirstConfig.official()
    placed = offload_map(config, CUDA, torch.bfloat16, 1e9)
    with torch.device("meta"):
        names = [name for name, _ in VirstModel(config).named_parameters()]
    assert all(any(name.startswith(part + ".") for part in placed) for name in names)


def test_unreachable_hub_model_is_one_sentence(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="no network"):
        load_model("nobody/nothing")
