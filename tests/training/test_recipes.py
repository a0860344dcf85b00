from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures.learners import build_tiny, tiny_recipe

from napari_virst.engine.loading import load_model
from napari_virst.errors import InputError
from napari_virst.model.processing import VirstProcessor
from napari_virst.training.loop import Trainer
from napari_virst.training.losses import LossWeights
from napari_virst.training.phases import Lora
from napari_virst.training.recipes import build_compact, finetune, open_run, smoke


def test_compact_model_has_a_few_million_parameters_and_every_part():
    model, processor = build_compact()
    assert 4e6 < sum(p.numel() for p in model.parameters()) < 10e6
    assert isinstance(processor, VirstProcessor)
    assert model.config.st_fusion_config.use_initial_fusion


def test_a_run_exports_a_model_that_loads(tmp_path):
    recipe = replace(smoke(), phases=(replace(smoke().phases[0], num_steps=2),))
    trainer = open_run(recipe, tmp_path / "run")
    trainer.train()
    trainer.export(tmp_path / "model")
    model, processor, _ = load_model(tmp_path / "model")
    weight = trainer.average.module.state_dict()["prompter.seg_proj.weight"]
    torch.testing.assert_close(model.state_dict()["prompter.seg_proj.weight"], weight.half().float())
    assert processor.unknown_words("the red giraffe") == ("giraffe",)


def test_a_recipe_that_goes_on_from_a_model_says_so(tmp_path):
    with pytest.raises(InputError, match="--from compact"):
        open_run(finetune(), tmp_path)


def test_finetuning_begins_with_the_models_own_weights(tiny_model_folder, tmp_path):
    trainer = open_run(tiny_recipe(1, name="finetune", needs_model=True), tmp_path, start_from=tiny_model_folder)
    expected = load_model(tiny_model_folder)[0].state_dict()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


LORA = Lora(rank=4, alpha=8, also_trained=("prompter",))


def lora_recipe(num_steps):
    language = replace(tiny_recipe(num_steps).phases[0], mix={"ground": 0.5, "propagate": 0.5})
    return tiny_recipe(
        num_steps,
        phases=(language,),
        ema_decay=None,
        lora=LORA,
        needs_model=True,
        loss_weights=LossWeights.published(),
        learning_rate=1e-2,
    )


@pytest.fixture
def lora_trainer(tiny_model_folder, tmp_path):
    pytest.importorskip("peft")
    torch.set_num_threads(1)
    return lambda steps, folder="run", **options: open_run(
        lora_recipe(steps), tmp_path / folder, start_from=tiny_model_folder, **options
    )


def test_adapters_learn_and_the_language_model_stays(lora_trainer):
    trainer = lora_trainer(3)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {n for n, v in trainer.model.state_dict().items() if not torch.equal(v, before[n])}
    assert any(".lora_B." in name for name in changed)
    assert all(".lora_" in name or name.startswith("prompter.") for name in changed)


def test_exported_adapters_are_merged_and_answer_the_same(lora_trainer, tmp_path):
    trainer = lora_trainer(3)
    trainer.train()
    trainer.export(tmp_path / "merged")
    merged, processor, _ = load_model(tmp_path / "merged", dtype="fp32")
    assert not any("lora" in name for name in merged.state_dict())
    tokens = processor.text_ids("the red circle")
    visual = torch.zeros(1, 1, merged.config.text_config.hidden_size)
    with torch.no_grad():
        ours = trainer.model.eval().float().language(tokens.input_ids, visual)
        theirs = merged.language(tokens.input_ids, visual)
        untouched = build_tiny()[0].language(tokens.input_ids, visual)
    assert (ours - theirs).abs().max() < 0.1 * (ours - untouched).abs().max()


def test_a_run_with_adapters_keeps_only_what_it_trains_and_resumes_bit_for_bit(lora_trainer):
    first = lora_trainer(4, "broken")
    first.train(lambda: first.step == 2)
    kept = torch.load(first.out_dir / "state.pt", weights_only=True)["model"]
    assert kept
    assert all(".lora_" in name or name.startswith("prompter.") for name in kept)
    second = lora_trainer(4, "broken")
    assert second.step == 2
    second.train()
    unbroken = lora_trainer(4, "unbroken")
    unbroken.train()
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_adapters_train_in_mixed_precision_too(lora_trainer):
    trainer = lora_trainer(2, precision="bf16")
    assert isinstance(trainer, Trainer)
    trainer.train()
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
