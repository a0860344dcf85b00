"""Answers in words: the one place where the vocabulary head is loaded, for as long as one answer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from napari_virst.errors import CheckpointError, QueryError
from napari_virst.model.conversion import HEAD, HEAD_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_virst.engine.encoding import VideoEncoder
    from napari_virst.model.processing import FrameSample, VirstProcessor
    from napari_virst.model.virst import VirstModel

MAX_NEW_TOKENS = 96


@torch.inference_mode()
def explain(
    model: VirstModel,
    processor: VirstProcessor,
    video: VideoEncoder,
    sample: FrameSample,
    question: str,
    should_stop: Callable[[], bool],
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> str:
    """Ask the language model about the sampled frames; return its answer, empty when told to stop.

    Raises
    ------
    QueryError
        When the question is empty, or the model has no words to answer with.
    CheckpointError
        When the model's folder has no vocabulary head.
    """
    head_file = vocabulary_head_file(model)
    ids_1L = processor.question_ids(question).input_ids.to(video.device)
    images: dict[int, Tensor] = {}
    for frame in sorted(set(sample.vlm)):
        if should_stop():
            return ""
        images[frame] = video.tower_pixels(frame)
    visual_1VD = model.encode_clips(torch.stack([images[frame] for frame in sample.vlm], 1))
    head_WD = read_head(head_file, video.device, visual_1VD.dtype)
    return processor.words_of(model.explain(visual_1VD, ids_1L, head_WD, processor.stop_token_ids, max_new_tokens))


def vocabulary_head_file(model: VirstModel) -> Path:
    """Return the file of the vocabulary head, which lies beside the weights.

    Raises
    ------
    QueryError
        When this kind of model was never taught to speak.
    CheckpointError
        When the file is missing.
    """
    if model.config.prompt_style == "compact":
        raise QueryError(
            "The bundled model has no words to answer with; it only finds things; "
            "choose the full model, converted with napari-virst convert."
        )
    path = Path(model.name_or_path) / HEAD_FILE
    if not path.is_file():
        raise CheckpointError(
            f'An answer in words must have {HEAD_FILE} beside the weights; "{path.parent}" has none; '
            "convert again from a checkpoint, or with a base model, that has lm_head.weight."
        )
    return path


def read_head(path: Path, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the vocabulary head (W, D), W words.

    Raises
    ------
    CheckpointError
        When the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            head: Tensor = opened.get_tensor(HEAD)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'"{path}" must hold {HEAD}; it cannot be read: {error}; convert again.') from error
    return head.to(device, dtype)
