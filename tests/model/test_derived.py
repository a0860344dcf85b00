from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from napari_virst.model.derived import Derived, is_plain


@pytest.fixture
def doubled():
    """``doubled(weight)``: twice the weight, kept; and how often that was computed."""
    derived, asked = Derived(), []

    def fetch(weight: torch.Tensor, *sizes: object) -> torch.Tensor:
        def make() -> torch.Tensor:
            asked.append(None)
            return weight * 2

        return derived.fetch("doubled", [weight], make, *sizes)

    fetch.asked = asked
    return fetch


def test_value_is_computed_once_while_nothing_changes(doubled):
    weight = torch.ones(3)
    with torch.inference_mode():
        assert doubled(weight) is doubled(weight)
    assert len(doubled.asked) == 1


@pytest.mark.parametrize(
    "change",
    [lambda w: w.add_(1), lambda w: w.set_(torch.full((3,), 2.0)), lambda w: w.copy_(torch.full((3,), 2.0))],
    ids=["in-place", "another-storage", "copied-over"],
)
def test_value_follows_the_weights(doubled, change):
    weight = torch.ones(3)
    with torch.no_grad():
        doubled(weight)
        change(weight)
        assert torch.equal(doubled(weight), torch.full((3,), 4.0))


def test_a_new_tensor_never_passes_for_one_that_was_freed(doubled):
    with torch.no_grad():
        for number in range(50):
            assert float(doubled(torch.full((64,), float(number)))[0]) == 2 * number


def test_another_size_is_another_value(doubled):
    weight = torch.ones(3)
    with torch.no_grad():
        doubled(weight, 20)
        doubled(weight, 30)
    assert len(doubled.asked) == 2


def test_nothing_is_kept_where_gradients_are_wanted(doubled):
    weight = torch.ones(3, requires_grad=True)
    assert doubled(weight).requires_grad
    doubled(weight)
    assert len(doubled.asked) == 2


def test_value_made_in_inference_mode_can_be_used_outside(doubled):
    weight = torch.ones(3)
    with torch.inference_mode():
        value = doubled(weight)
    assert not value.is_inference()


def test_copy_keeps_nothing_of_the_original():
    derived, weight = Derived(), torch.ones(3)
    with torch.no_grad():
        derived.fetch("x", [weight], lambda: 1)
        assert deepcopy(derived).fetch("x", [weight], lambda: 2) == 2


def test_gradients_and_half_precision_take_the_general_way():
    assert not is_plain(torch.ones(3))
    with torch.no_grad():
        assert is_plain(torch.ones(3))
        assert not is_plain(torch.ones(3, dtype=torch.bfloat16))
