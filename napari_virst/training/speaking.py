"""Next-token prediction on the answer, which for grounding is part of the prompt.

Shape legend: B prompts, I ids of a prompt, R rows of the expanded prompt, D width of the language model, W words,
A tokens of all answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from napari_virst.model.processing import VirstProcessor

TURN_START = "<|im_start|>"
_NUM_TURN_TOKENS = 3
"""The mark, "assistant", a line break."""


def answer_mask(processor: VirstProcessor, ids_BI: Tensor, attention_mask_BI: Tensor) -> Tensor:
    """Return which ids (B, I) belong to the answer: the assistant's turn, or the ST tokens where there is no chat."""
    position_I = torch.arange(ids_BI.shape[1], device=ids_BI.device)
    first_st_B1 = (ids_BI == processor.st_token_id).int().argmax(1, keepdim=True)
    turn_id = processor.tokenizer.get_vocab().get(TURN_START)
    starts_B1 = first_st_B1
    if turn_id is not None:
        is_turn_BI = (ids_BI == turn_id) & (position_I < first_st_B1)
        turn_B1 = torch.where(is_turn_BI, position_I, -1).amax(1, keepdim=True)
        starts_B1 = torch.where(turn_B1 >= 0, turn_B1 + _NUM_TURN_TOKENS, first_st_B1)
    return (position_I >= starts_B1) & attention_mask_BI.bool()


def answer_loss(
    processor: VirstProcessor, ids_BI: Tensor, attention_mask_BI: Tensor, rows_BRD: Tensor, head_WD: Tensor
) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens, each foretold by the row before it.

    Parameters
    ----------
    processor
        Whose prompts these are.
    ids_BI, attention_mask_BI
        The prompts before visual tokens took the placeholder's place.
    rows_BRD
        Hidden states of the expanded prompts.
    head_WD
        The vocabulary head.
    """
    prompt_A, position_A = answer_mask(processor, ids_BI, attention_mask_BI).nonzero().unbind(1)
    num_added = rows_BRD.shape[1] - ids_BI.shape[1]
    before_AD = rows_BRD[prompt_A, position_A + num_added - 1]
    return F.cross_entropy((before_AD @ head_WD.to(before_AD.dtype).T).float(), ids_BI[prompt_A, position_A])
