"""Stage 6, before the blocks: the sequence that the language model reads."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.parity


def test_input_with_visual_tokens_in_the_placeholders_place(recording):
    found = recording.model.language.expand(recording.input_ids, recording.visual_tokens)
    # Embeddings and recorded tokens are copied, not computed; only tokens of our own carry the projector's noise.
    atol = 0.0 if "mm_projector_tokens" in recording.outputs else recording.tolerance("mm_projector_tokens")
    recording.assert_close(found, "inputs_embeds", atol)


def test_rows_of_the_st_tokens(recording):
    rows = recording.model.language.expanded_st_rows(recording.input_ids, recording.visual_tokens.shape[1])[0]
    assert torch.equal(rows, recording.array("seg_positions"))
    is_st = recording.array("expanded_labels")[0] == recording.config["tokens"]["seg_token_id"]
    assert torch.equal(rows, is_st.nonzero()[:, 0])


def test_labels_beside_visual_tokens_are_ignored(recording):
    labels, expanded = recording.inputs["labels"][0], recording.array("expanded_labels")[0]
    place = int((recording.input_ids[0] == recording.config["tokens"]["image_token_id"]).nonzero())
    num_visual = recording.visual_tokens.shape[1]
    assert len(expanded) == len(labels) - 1 + num_visual
    assert (expanded[place : place + num_visual] == recording.config["tokens"]["ignore_index"]).all()
    kept = torch.cat([expanded[:place], expanded[place + num_visual :]])
    assert kept.tolist() == [*labels[:place], *labels[place + 1 :]]
