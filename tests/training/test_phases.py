from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.learners import tiny_recipe

from napari_virst.training.phases import Recipe
from napari_virst.training.recipes import RECIPES, smoke


def test_rate_warms_up_stays_and_decays():
    phase = tiny_recipe(8).phases[0]
    recipe = Recipe("rates", (phase,), num_warmup_steps=4, num_decay_steps=2, learning_rate=1.0)
    rates = [recipe.rate_at(step) for step in range(recipe.num_steps)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:7] == [1.0, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.5)


def test_phases_follow_each_other():
    recipe = Recipe("two", (tiny_recipe(3).phases[0], replace(tiny_recipe(2).phases[0], size=64)))
    assert [recipe.phase_of(step).size for step in range(6)] == [32, 32, 32, 64, 64, 64]


@pytest.mark.parametrize("name", ["smoke", "full_lora"])
def test_three_stages_come_in_the_papers_order(name):
    align, segment, propagate = RECIPES[name]().phases
    assert [stage.name for stage in (align, segment, propagate)] == ["align", "segment", "propagate"]
    assert align.frozen == ("segmenter",)
    assert not segment.frozen
    assert not propagate.frozen
    assert "propagate" not in segment.mix
    assert propagate.mix["propagate"] > 0.5


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_named_as_it_is_called_and_says_all_sizes(name):
    recipe = RECIPES[name]()
    assert recipe.name == name
    for phase in recipe.phases:
        assert set(phase.mix) <= set(phase.batch_size)
        assert set(phase.mix) - {"still"} <= set(phase.num_frames)


def test_full_recipe_has_the_published_losses_and_adapters():
    recipe = RECIPES["full_lora"]()
    assert recipe.lora.scaling == 0.25
    assert recipe.loss_weights.token == 1
    assert recipe.needs_model
    assert smoke().lora is None
