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
            "cache": _cache(),
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
    STDOUT.print(f"Features  {_cache_line(facts['cache'])}")


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


def _cache() -> dict[str, Any]:
    """Limits of the feature cache, and what its folder holds; what is in memory goes with the process."""
    from napari_virst.engine.cache import CacheLimits, ram_budget
    from napari_virst.engine.cache_disk import default_folder, disk_use

    limits = CacheLimits.from_environment()
    folder = limits.folder or default_folder()
    use = disk_use(folder)
    return {
        "ram_budget_gb": round(ram_budget(limits) / BYTES_PER_GB, 2),
        "disk_budget_gb": round(limits.disk_bytes / BYTES_PER_GB, 2),
        "disk_gb": round(use.num_bytes / BYTES_PER_GB, 3),
        "folder": str(folder),
        "num_hits": use.num_hits,
        "num_misses": use.num_misses,
    }


def _cache_line(cache: dict[str, Any]) -> str:
    asked = cache["num_hits"] + cache["num_misses"]
    rate = f", {cache['num_hits'] / asked:.0%} of {asked} askings answered so far" if asked else ""
    line = f"up to {cache['ram_budget_gb']} GB in memory while the program runs; on disk "
    if not cache["disk_budget_gb"]:
        line += "off (set NAPARI_VIRST_CACHE_DISK_GB=20 to keep them between sessions)"
        return line + (f"; {cache['disk_gb']} GB left in {cache['folder']}" if cache["disk_gb"] else "")
    return line + f"{cache['disk_gb']} of {cache['disk_budget_gb']} GB in {cache['folder']}{rate}"


def _full_model_fits() -> str:
    from napari_virst.engine.preflight import preflight
    from napari_virst.model.config import VirstConfig

    largest = max((d["memory_gb"] for d in _devices()), default=0.0)
    return preflight(VirstConfig.official(), largest).line
