from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_virst.model.processing import VirstProcessor
from napari_virst.model.segmenter import Decoded
from napari_virst.training.loop import Phase, Recipe, Trainer
from napari_virst.training.losses import LossWeights, segmentation_loss
from napari_virst.training.recipes import build_compact, open_run, smoke


def tiny_recipe(num_steps: int) -> Recipe:
    phase = Phase(
        num_steps=num_steps,
        mix={"ground": 0.5, "follow": 0.5},
        num_frames={"ground": 4, "follow": 2},
        batch_size={"ground": 1, "follow": 1},
        size=32,
        kinds=("colour",),
    )
    return Recipe("tiny", (phase,), num_warmup_steps=1, num_decay_steps=1, checkpoint_every_steps=100)


@pytest.fixture
def tiny_trainer(tmp_path):
    from fixtures.models import build_tiny

    def make(num_steps: int, folder: str = "run") -> Trainer:
        return Trainer(*build_tiny(), tiny_recipe(num_steps), tmp_path / folder)

    return make


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tiny_trainer):
    torch.set_num_threads(1)
    unbroken = tiny_trainer(6, "unbroken")
    unbroken.train()
    first = tiny_trainer(6, "broken")
    first.train(should_stop=lambda: first.step == 3)
    second = tiny_trainer(6, "broken")
    assert second.resume()
    assert second.step == 3
    second.train()
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in unbroken.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def test_nothing_to_resume_is_said(tiny_trainer):
    assert not tiny_trainer(1).resume()


def test_rate_warms_up_stays_and_decays():
    recipe = replace(smoke(), num_warmup_steps=4, num_decay_steps=2, learning_rate=1.0)
    rates = [recipe.rate_at(step) for step in range(recipe.num_steps)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:7] == [1.0, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.5)


def test_phases_follow_each_other():
    recipe = Recipe("two", (tiny_recipe(3).phases[0], replace(tiny_recipe(2).phases[0], size=64)))
    assert [recipe.phase_of(step).size for step in range(6)] == [32, 32, 32, 64, 64, 64]


def decoded(candidates, iou=None, score=5.0):
    batch, num = candidates.shape[:2]
    iou = torch.full((batch, num), 0.5) if iou is None else iou
    return Decoded(candidates[:, :1], candidates, iou, torch.full((batch,), score), None)


def test_loss_is_small_for_the_truth_and_large_for_its_opposite():
    target = torch.zeros(2, 16, 16)
    target[:, 4:12, 4:12] = 1
    small = torch.nn.functional.avg_pool2d(target[:, None], 4) * 20 - 10
    right, _ = segmentation_loss(decoded(small.expand(-1, 3, -1, -1)), target, LossWeights())
    wrong, _ = segmentation_loss(decoded(-small.expand(-1, 3, -1, -1)), target, LossWeights())
    assert right < 0.2 < 5 < wrong


def test_one_wrong_candidate_costs_less_than_three():
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    right = torch.nn.functional.avg_pool2d(target[:, None], 4) * 20 - 10
    one, _ = segmentation_loss(decoded(torch.cat([right, right, -right], 1)), target, LossWeights())
    all_, _ = segmentation_loss(decoded(torch.cat([-right, -right, -right], 1)), target, LossWeights())
    assert one < 0.5 * all_


def test_absence_is_learned_by_the_presence_term():
    target = torch.zeros(1, 16, 16)
    empty = torch.full((1, 3, 4, 4), -10.0)
    sure, _ = segmentation_loss(decoded(empty, score=-8.0), target, LossWeights())
    fooled, _ = segmentation_loss(decoded(empty, score=8.0), target, LossWeights())
    assert sure < 0.01 < fooled


def test_smoke_recipe_runs_and_exports_a_model_that_loads(tmp_path):
    from napari_virst.engine.loading import load_model

    trainer = open_run(replace(smoke(), phases=(replace(smoke().phases[0], num_steps=2),)), tmp_path / "run")
    trainer.train()
    trainer.export(tmp_path / "model")
    model, processor, _ = load_model(tmp_path / "model")
    weight = trainer.average.module.state_dict()["prompter.seg_proj.weight"]
    torch.testing.assert_close(model.state_dict()["prompter.seg_proj.weight"], weight.half().float())
    assert processor.unknown_words("the red giraffe") == ("giraffe",)


def test_compact_model_has_a_few_million_parameters_and_every_part():
    model, processor = build_compact()
    assert 4e6 < sum(p.numel() for p in model.parameters()) < 10e6
    assert isinstance(processor, VirstProcessor)
    assert model.config.st_fusion_config.num_st_tokens == 10
