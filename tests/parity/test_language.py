"""Stage 6: the language model, from recorded visual tokens and recorded fused embeddings."""

from __future__ import annotations

import pytest
import torch

from napari_virst.model.config import VirstConfig
from napari_virst.model.language import LanguageModel

pytestmark = [pytest.mark.parity, pytest.mark.shared]

# Recorded noise of the reference's own attention kernels: 5.7e-6 with, 2.2e-6 without initial fusion; five times that.
# Merging LoRA changes 2e-6, ignoring it 1.
TOLERANCE = {"fusion": 5 * 5.7e-6, "nofusion": 5 * 2.2e-6}
CASES = pytest.mark.parametrize("case", ["fusion", "nofusion"])


def read_prompt(recording, case: str, **options) -> torch.Tensor:
    ids = torch.from_numpy(recording.inputs["input_ids"])
    visual = recording.array("mm_projector_tokens").flatten(0, 1)[None]
    fused = recording.array("initial_seg_fusion_out") if case == "fusion" else None
    return recording.language(ids, visual, fused, torch.ones_like(ids), **options)


def test_input_with_visual_tokens_in_the_placeholders_place(recording):
    ids = torch.from_numpy(recording.inputs["input_ids"])
    visual = recording.array("mm_projector_tokens").flatten(0, 1)[None]
    # Embeddings and recorded tokens are copied, not computed.
    assert torch.equal(recording.language.expand(ids, visual), recording.array("inputs_embeds"))


def test_rows_of_the_st_tokens(recording):
    ids = torch.from_numpy(recording.inputs["input_ids"])
    num_visual = recording.array("mm_projector_tokens").flatten(0, 1).shape[0]
    rows = recording.language.expanded_st_rows(ids, num_visual)[0]
    assert torch.equal(rows, recording.array("seg_positions"))
    is_st = recording.array("expanded_labels")[0] == recording.config["tokens"]["seg_token_id"]
    assert torch.equal(rows, is_st.nonzero()[:, 0])


@CASES
def test_hidden_states_of_every_row(recording, case):
    found = read_prompt(recording, case, return_all=True)[0]
    torch.testing.assert_close(found, recording.array(f"{case}_last_hidden_all"), rtol=0, atol=TOLERANCE[case])


@CASES
def test_hidden_states_of_the_st_tokens(recording, case):
    found = read_prompt(recording, case)[0]
    torch.testing.assert_close(found, recording.array(f"{case}_last_hidden_seg"), rtol=0, atol=TOLERANCE[case])


@CASES
def test_hidden_states_of_the_st_tokens_after_each_block(recording, case):
    rows = recording.array("seg_positions")
    states: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0][0, rows]))
        for layer in recording.language.model.layers
    ]
    final = read_prompt(recording, case)[0]
    for hook in hooks:
        hook.remove()
    expected = recording.array(f"{case}_llm_hidden_states_seg")
    torch.testing.assert_close(torch.stack([*states, final]), expected, rtol=0, atol=TOLERANCE[case])


def test_names_and_shapes_are_those_of_the_published_checkpoint(official_shapes):
    config = VirstConfig.official()
    with torch.device("meta"):
        language = LanguageModel(config.text_config, st_token_id=config.st_token_id, image_token_id=-200)
    found = {name: tuple(value.shape) for name, value in language.state_dict().items()}
    own = ("model.embed_tokens.", "model.norm.", "model.layers.")
    assert found == {n: s for n, s in official_shapes.items() if n.startswith(own) and ".lora_" not in n}


def test_official_sizes_are_the_recorded_ones(official_config):
    config, llm = VirstConfig.official(), official_config["llm"]
    text = config.text_config
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        assert getattr(text, name) == llm[name]
    assert (text.vocab_size, text.rms_norm_eps, text.hidden_act) == (llm["vocab_size"], llm["rms_norm_eps"], "silu")
    assert text.rope_parameters["rope_theta"] == llm["rope_theta"]
    assert text.tie_word_embeddings is llm["tie_word_embeddings"]
    assert config.st_token_id == official_config["tokens"]["seg_token_id"]
    assert config.image_token_id == official_config["tokens"]["image_token_id"]
