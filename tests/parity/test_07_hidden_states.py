"""Stage 6: the language model, from recorded visual tokens and recorded fused embeddings.

Tolerance: five times the recorded noise of the case's arrays, which is that of the reference's own attention kernels.
Merging LoRA changes 2e-6, ignoring it 1.
"""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.parity

CASES = pytest.mark.parametrize("case", ["fusion", "nofusion"])


def read_prompt(recording, case: str, **options) -> torch.Tensor:
    ids = recording.input_ids
    fused = recording.fused_embeddings if case == "fusion" else None
    return recording.model.language(ids, recording.visual_tokens, fused, torch.ones_like(ids), **options)


def tolerance(recording, case: str) -> float:
    names = ("llm_hidden_states_seg", "last_hidden_seg", "last_hidden_all")
    return max(recording.tolerance(f"{case}_{name}") for name in names)


@CASES
def test_hidden_states_of_every_row(recording, case):
    found = read_prompt(recording, case, return_all=True)[0]
    recording.assert_close(found, f"{case}_last_hidden_all", tolerance(recording, case))


@CASES
def test_hidden_states_of_the_st_tokens(any_recording, case):
    found = read_prompt(any_recording, case)[0]
    any_recording.assert_close(found, f"{case}_last_hidden_seg", tolerance(any_recording, case))


@CASES
def test_hidden_states_of_the_st_tokens_after_each_block(recording, case):
    rows = recording.model.language.expanded_st_rows(recording.input_ids, recording.visual_tokens.shape[1])[0]
    states: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0][0, rows]))
        for layer in recording.model.language.model.layers
    ]
    final = read_prompt(recording, case)[0]
    for hook in hooks:
        hook.remove()
    found = torch.stack([*states, final])
    recording.assert_close(found, f"{case}_llm_hidden_states_seg", tolerance(recording, case))
