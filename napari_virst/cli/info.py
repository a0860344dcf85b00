"""``napari-virst info``: versions, devices, the model, and what fits."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_virst.cli.report import STDERR, STDOUT

PACKAGES = (
    "napari-virst",
    "torch",
    "transformers",
    "napari",
    "PySide6-Essentials",
    "numpy",
    "dask",
    "tifffile",
    "zarr",
    "av",
)
BYTES_PER_GB = 1e9


def collect(model: str) -> dict[str, Any]:
    """Gather what there is to know; the model's parameters are counted from its sizes, its weights stay on disk.

    Raises
    ------
    CheckpointError
        When there is no such model.
    """
    with STDERR.status("looking around"):
        from napari_virst.engine.loading import BUNDLED, model_folder, pick_device, pick_dtype, read_config
        from napari_virst.engine.preflight import count_parameters, memory_needs

        folder = model_folder(model)
        config, device = read_config(folder), pick_device("auto")
        num_parameters = count_parameters(config)
        needs = memory_needs(config, pick_dtype("auto", device, config))
        return {
            "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "cpu": {"num_cores": os.cpu_count(), "memory_gb": _memory_gb()},
            "devices": _devices(),
            "default_device": str(device),
            "model": {
                "name": BUNDLED if model == BUNDLED else folder.name,
                "num_parameters": num_parameters,
                "memory_gb": round(needs.total_gb, 3),
                "memory_readout": config.segmenter_config.memory_readout,
                "image_size_px": config.segmenter_config.image_size,
                "num_known_words": config.text_config.vocab_size,
            },
            "full_model_fits": _full_model_fits(),
        }


def show(facts: dict[str, Any]) -> None:
    """Print the facts for a person."""
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in facts["versions"].items())
    model, cpu = facts["model"], facts["cpu"]
    STDOUT.print(f"Versions  {versions}")
    STDOUT.print(f"Computer  {cpu['num_cores']} cores, {cpu['memory_gb']} GB of memory")
    for device in facts["devices"] or [{"name": "no GPU", "memory_gb": 0.0}]:
        STDOUT.print(f"GPU       {device['name']}" + (f", {device['memory_gb']} GB" if device["memory_gb"] else ""))
    STDOUT.print(f"Runs on   {facts['default_device']}")
    STDOUT.print(
        f"Model     {model['name']}: {model['num_parameters'] / 1e6:.1f} million parameters, "
        f"{model['num_known_words']} words, {model['image_size_px']} px, memory readout {model['memory_readout']}"
    )
    STDOUT.print(f"Full size {facts['full_model_fits']}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / BYTES_PER_GB, 1)


def _devices() -> list[dict[str, Any]]:
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": d.name, "memory_gb": round(d.total_memory / BYTES_PER_GB, 1)} for d in found]


def _full_model_fits() -> str:
    from napari_virst.engine.preflight import preflight
    from napari_virst.model.config import VirstConfig

    largest = max((d["memory_gb"] for d in _devices()), default=0.0)
    return preflight(VirstConfig.official(), largest).line
