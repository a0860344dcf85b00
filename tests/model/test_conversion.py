"""What becomes of every tensor is decided before a number is read; what is wrong is named."""

from __future__ import annotations

import json
import re

import pytest
import torch
from fixtures.published import CONFIG, published_state, save_checkpoint, save_parts
from fixtures.recordings import SHIPPED_PARITY

from napari_virst.errors import CheckpointError
from napari_virst.model.checkpoint import PEFT_PREFIX, merge_lora, normalise, rename
from napari_virst.model.config import VirstConfig
from napari_virst.model.conversion import plan_conversion
from napari_virst.model.published_config import PublishedSizes, lora_scaling
from napari_virst.model.tensor_files import StoredTensor, TensorSource, open_base, open_checkpoint, open_sam2
from napari_virst.model.virst import VirstModel

SIZES = PublishedSizes.read(CONFIG)
SEG_PROJ = PEFT_PREFIX + "model.seg_prompter.seg_proj.weight"
A_LORA = PEFT_PREFIX + "model.layers.1.mlp.up_proj.lora_A.default.weight"


def source_of(state, title="checkpoint"):
    tensors = {n: StoredTensor(n, tuple(v.shape), lambda v=v: v) for n, v in state.items()}
    return TensorSource(title, (), tensors)


def plan(state, sizes=SIZES, **options):
    return plan_conversion([source_of(state)], sizes, torch.float32, **options)


def without(*patterns):
    return {n: v for n, v in published_state().items() if not any(re.search(p, n) for p in patterns)}


def values_of(found):
    return {recipe.slot.name: recipe.compute() for recipe in found.recipes}


@pytest.fixture(scope="module")
def expected():
    """The same, by the short way that holds everything in memory."""
    state = {normalise(name): value.float() for name, value in published_state().items()}
    return rename(merge_lora(state, SIZES.lora_scaling))[0]


def assert_same(found, expected):
    values = values_of(found)
    assert values.keys() == expected.keys()
    for name, value in values.items():
        torch.testing.assert_close(value.float(), expected[name], rtol=0, atol=0, msg=name)


def test_all_official_names_and_shapes_are_the_models_and_nothing_is_left():
    rows = [row.split("\t") for row in (SHIPPED_PARITY / "official_keys.tsv").read_text().splitlines()[1:]]
    tensors = {
        name: StoredTensor(name, tuple(int(n) for n in shape.split(",") if n), lambda: pytest.fail("was read"))
        for name, shape, *_ in rows
    }
    found = plan_conversion([TensorSource("checkpoint", (), tensors)], PublishedSizes.official(), torch.bfloat16)
    with torch.device("meta"):
        model = VirstModel(VirstConfig.official())
    assert {r.slot.name: r.slot.shape for r in found.recipes} == {
        n: tuple(v.shape) for n, v in model.state_dict().items()
    }
    used = {p.stored.name for r in (*found.recipes, found.head) for p in (*r.pieces, *(r.lora or ()))}
    dropped = {PEFT_PREFIX + name for name in found.dropped} - {PEFT_PREFIX + "lm_head.weight"}
    assert len(tensors) == 2016
    assert used | dropped == tensors.keys()
    assert len(dropped) == 2
    assert found.groups["LoRA, merged"] == {"checkpoint": 392}


def test_official_sizes_read_from_json_are_the_official_sizes():
    read = PublishedSizes.read(SHIPPED_PARITY / "official_config.json")
    assert read.lora_scaling == PublishedSizes.official().lora_scaling == 0.25
    with torch.device("meta"):
        models = VirstModel(read.config), VirstModel(VirstConfig.official())
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "JSON"), ("{}", "must name"), ('{"lora": {"r": 0}}', "must name")],
    ids=["cut-off", "empty", "incomplete"],
)
def test_wrong_sizes_file_is_explained(tmp_path, text, said):
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        PublishedSizes.read(tmp_path / "sizes.json")


def test_whole_checkpoint_gives_the_merged_weights(expected):
    assert_same(plan(published_state()), expected)


def test_partial_checkpoint_is_filled_from_the_other_files(tmp_path, expected):
    partial, base, sam2 = save_parts(tmp_path)
    found = plan_conversion([open_checkpoint(partial), open_base(base), open_sam2(sam2)], SIZES, torch.float32)
    assert_same(found, expected)
    assert found.groups["video tower"] == {"base model": 43}
    assert found.groups["prompter"] == {"checkpoint": 54}
    assert set(found.groups["SAM 2.1: memory"]) == {"SAM 2.1"}
    assert found.head.compute().shape == (301, 64)
    assert any("first 301 of 320 words" in note for note in found.notes)


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: "module." + name,
        lambda name: name.removeprefix(PEFT_PREFIX),
        lambda name: re.sub(r"(_proj)\.(weight|bias)$", r"\1.base_layer.\2", name) if ".layers." in name else name,
        lambda name: name.replace(".default.weight", ".weight"),
    ],
    ids=["module-prefix", "no-prefix", "base-layer", "lora-without-default"],
)
def test_other_spellings_of_the_names_are_understood(expected, spell):
    state = {}
    for name, value in published_state().items():
        in_language = PEFT_PREFIX + "model.layers." in name
        state[spell(name) if in_language or "base_layer" not in spell(name) else name] = value
    assert_same(plan(state), expected)


def test_one_tensor_under_two_names_is_refused():
    with pytest.raises(CheckpointError, match="the same one"):
        plan(published_state() | {"module." + SEG_PROJ: published_state()[SEG_PROJ]})


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"seg_prompter\.seg_proj\.weight", r"prompter: 1 \(model\.seg_prompter\.seg_proj\.weight\)"),
        (r"vision_tower", r"video tower: 43 .*; give --base"),
        (r"seg_model\.maskmem_tpos_enc", r"memory: 1 \(model\.seg_model\.maskmem_tpos_enc\); give --sam2"),
        (r"point_embeddings\.2", r"model\.seg_model\.sam_prompt_encoder\.point_embeddings"),
        (r"layers\.0\.mlp\.up_proj\.weight", r"model\.layers\.0\.mlp\.up_proj\.weight\); give --base"),
        (r"initial_seg_fusion_module", "--without-initial-fusion"),
    ],
    ids=["prompter", "tower", "memory", "one-point", "lora-without-its-weight", "initial-fusion"],
)
def test_missing_tensors_are_named_with_where_to_get_them(pattern, said):
    with pytest.raises(CheckpointError, match=said):
        plan(without(pattern))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"model.text_projection.weight": torch.zeros(2)}, r"model\.text_projection\.weight \(checkpoint\)"),
        ({PEFT_PREFIX + "model.layers.9.input_layernorm.weight": torch.zeros(64)}, r"layers\.9.*--config"),
        ({SEG_PROJ: torch.zeros(256, 65)}, r"seg_proj\.weight has \(256, 65\), not \(256, 64\)"),
        ({A_LORA: torch.zeros(4, 64)}, r"rank 4, not 8"),
    ],
    ids=["unknown", "layer-too-many", "other-shape", "other-rank"],
)
def test_unknown_and_misfitting_tensors_are_named(extra, said):
    with pytest.raises(CheckpointError, match=said):
        plan(published_state() | extra)


def test_lonely_lora_matrix_is_named():
    with pytest.raises(CheckpointError, match=r"partner.*layers\.1\.mlp\.up_proj\.lora_B"):
        plan(without(re.escape(A_LORA)))


def test_sizes_of_another_model_are_refused():
    with pytest.raises(CheckpointError, match=r"--config|must be in one of the files"):
        plan(published_state(), PublishedSizes.official())


def test_absent_initial_fusion_is_written_switched_off_when_asked():
    found = plan(without("initial_seg_fusion_module"), without_initial_fusion=True)
    assert values_of(found)["initial_fusion.gate"] == 0
    assert found.groups["initial fusion"] == {"switched off": 19}
    with pytest.raises(CheckpointError, match=r"initial_seg_fusion_module\.gate"):
        plan(without(r"initial_seg_fusion_module\.gate"), without_initial_fusion=True)


def test_absent_vocabulary_head_is_noted():
    found = plan(without("lm_head"))
    assert found.head is None
    assert any("explain" in note for note in found.notes)


def test_fixed_tables_stay_float32():
    found = plan_conversion([source_of(published_state())], SIZES, torch.bfloat16)
    kept = {recipe.slot.name for recipe in found.recipes if recipe.slot.dtype == torch.float32}
    assert kept == {
        "segmenter.shared_image_embedding.positional_embedding",
        "segmenter.prompt_encoder.shared_embedding.positional_embedding",
    }


def test_checkpoint_files_are_read_as_the_plan_says(tmp_path, expected):
    path = save_checkpoint(tmp_path / "whole.pt")
    assert_same(plan_conversion([open_checkpoint(path)], SIZES, torch.float32), expected)


def sizes_with(**lora):
    content = json.loads(CONFIG.read_text())
    content["lora"] |= lora
    return PublishedSizes(SIZES.config, lora_scaling(content["lora"]), content["lora"]["r"])


def with_rank(rank, factor):
    """The same product of LoRA matrices: zero rows up to another rank, B times a power of two."""
    state = {}
    for name, value in published_state().items():
        if ".lora_" in name:
            missing = rank - value.shape[0 if ".lora_A." in name else 1]
            pad = (0, 0, 0, missing) if ".lora_A." in name else (0, missing)
            value = torch.nn.functional.pad(value, pad) * (1 if ".lora_A." in name else factor)
        state[name] = value
    return state


@pytest.mark.parametrize(
    ("rank", "alpha", "factor"), [(12, 6, 1.0), (16, 4, 2.0), (32, 64, 0.25)], ids=["padded", "lower", "higher"]
)
def test_rank_and_scale_of_lora_are_those_of_the_given_sizes(expected, rank, alpha, factor):
    """scale = alpha / rank, whatever the rank; with the matrices made to fit, the merged weights are the same."""
    assert_same(plan(with_rank(rank, factor), sizes_with(r=rank, alpha=alpha)), expected)


def test_rank_other_than_that_of_the_sizes_is_refused():
    with pytest.raises(CheckpointError, match="has rank 12, not 8"):
        plan(with_rank(12, 1.0))
