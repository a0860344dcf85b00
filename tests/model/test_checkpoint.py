"""Names of the published checkpoint and ours."""

from __future__ import annotations

import pytest
from fixtures.recordings import SHIPPED_PARITY

from napari_virst.model.checkpoint import normalise, place_of, published_name

NAMES = [row.split("\t")[0] for row in (SHIPPED_PARITY / "official_keys.tsv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base_model.model.model.norm.weight", "model.norm.weight"),
        ("module.base_model.model.model.norm.weight", "model.norm.weight"),
        ("model.norm.weight", "model.norm.weight"),
        (
            "base_model.model.model.layers.3.mlp.up_proj.base_layer.weight",
            "model.layers.3.mlp.up_proj.weight",
        ),
        (
            "base_model.model.model.layers.3.mlp.up_proj.lora_B.weight",
            "model.layers.3.mlp.up_proj.lora_B.default.weight",
        ),
    ],
    ids=["published", "module-prefix", "bare", "newer-peft", "lora-without-default"],
)
def test_wrappers_marks_are_taken_off(name, expected):
    assert normalise(name) == expected


def test_every_published_name_has_a_place_or_a_reason():
    assert len(NAMES) == 2016
    for name in map(normalise, NAMES):
        if ".lora_" not in name:
            place = place_of(name)
            assert place is not None, name
            assert bool(place.targets) != bool(place.dropped_because), name


def test_two_published_names_never_share_a_place():
    places = [(place_of(n), n) for n in map(normalise, NAMES) if ".lora_" not in n]
    taken = [(target, place.row) for place, _ in places for target in place.targets]
    assert len(taken) == len(set(taken))


def test_our_names_lead_back_to_the_published_ones():
    for name in map(normalise, NAMES):
        place = place_of(name)
        if place and place.row is None:
            assert all(published_name(target) == name for target in place.targets)


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.lora_A.default.weight", "text_model.encoder.weight"])
def test_what_has_no_place_is_not_guessed(name):
    assert place_of(name) is None
