"""Low-rank adapters on the language model, through peft; names and merging are those of the published checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.errors import InputError
from napari_virst.model.checkpoint import merge_lora

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_virst.model.virst import VirstModel
    from napari_virst.training.phases import Lora


def add_adapters(model: VirstModel, lora: Lora) -> None:
    """Put adapters into the language model, in place, and freeze everything but them and ``lora.also_trained``.

    Trained weights become float32, the others keep their type.

    Raises
    ------
    InputError
        When peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError('LoRA must have peft; it is not installed; run pip install "napari-virst[train]".') from error
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), bias="none")
    inject_adapter_in_model(config, model.language.model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or name.startswith(lora.also_trained))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merged_state(state: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Fold the adapters into their weights: the names of a model without adapters, each in its own type."""
    plain = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}
    merged = merge_lora(plain, lora.scaling)
    return {name: tensor.to(plain[name].dtype) for name, tensor in merged.items()}
