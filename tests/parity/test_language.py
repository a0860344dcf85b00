"""Stage 6: the language model, from recorded visual tokens and recorded fused embeddings."""

from __future__ import annotations

import pytest
import torch

pytestmark = [pytest.mark.parity, pytest.mark.shared]

# Recorded noise of the reference's own attention kernels: 5.7e-6 with, 2.2e-6 without initial fusion; five times that.
# Merging LoRA changes 2e-6, ignoring it 1.
TOLERANCE = {"fusion": 5 * 5.7e-6, "nofusion": 5 * 2.2e-6}
CASES = pytest.mark.parametrize("case", ["fusion", "nofusion"])


def ids_of(recording) -> torch.Tensor:
    return torch.from_numpy(recording.inputs["input_ids"])


def read_prompt(recording, case: str, **options) -> torch.Tensor:
    ids = ids_of(recording)
    fused = recording.array("initial_seg_fusion_out") if case == "fusion" else None
    return recording.model.language(ids, recording.visual_tokens, fused, torch.ones_like(ids), **options)


def test_input_with_visual_tokens_in_the_placeholders_place(recording):
    # Embeddings and recorded tokens are copied, not computed.
    recording.assert_close(
        recording.model.language.expand(ids_of(recording), recording.visual_tokens), "inputs_embeds", 0
    )


def test_rows_of_the_st_tokens(recording):
    rows = recording.model.language.expanded_st_rows(ids_of(recording), recording.visual_tokens.shape[1])[0]
    assert torch.equal(rows, recording.array("seg_positions"))
    is_st = recording.array("expanded_labels")[0] == recording.config["tokens"]["seg_token_id"]
    assert torch.equal(rows, is_st.nonzero()[:, 0])


@CASES
def test_hidden_states_of_every_row(recording, case):
    found = read_prompt(recording, case, return_all=True)[0]
    recording.assert_close(found, f"{case}_last_hidden_all", TOLERANCE[case])


@CASES
def test_hidden_states_of_the_st_tokens(recording, case):
    found = read_prompt(recording, case)[0]
    recording.assert_close(found, f"{case}_last_hidden_seg", TOLERANCE[case])


@CASES
def test_hidden_states_of_the_st_tokens_after_each_block(recording, case):
    rows = recording.array("seg_positions")
    states: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0][0, rows]))
        for layer in recording.model.language.model.layers
    ]
    final = read_prompt(recording, case)[0]
    for hook in hooks:
        hook.remove()
    recording.assert_close(torch.stack([*states, final]), f"{case}_llm_hidden_states_seg", TOLERANCE[case])
