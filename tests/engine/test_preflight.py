"""What a model needs is known from its sizes, and said before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from napari_virst.engine.preflight import check_fits, count_parameters, memory_needs, preflight
from napari_virst.errors import DeviceError
from napari_virst.model.config import VirstConfig

OFFICIAL = VirstConfig.official()
BF16 = torch.bfloat16


def test_weights_are_counted_without_being_made():
    # parity/README.md: layers with LoRA merged, words, norm, tower, projector, SAM, prompter, fusion; without the head
    millions = 6525.6 + 1087.0 / 2 + 290.5 + 16.5 + 224.4 + 4.8 + 54.1
    assert count_parameters(OFFICIAL) == pytest.approx(millions * 1e6, rel=1e-4)
    assert memory_needs(OFFICIAL, BF16).weights_bytes == 2 * count_parameters(OFFICIAL)
    assert memory_needs(OFFICIAL, torch.float32).weights_bytes == 4 * count_parameters(OFFICIAL)


def test_every_way_to_save_needs_less_than_the_one_before():
    needs = [
        memory_needs(OFFICIAL, torch.float32),
        memory_needs(OFFICIAL, BF16),
        memory_needs(OFFICIAL, BF16, "8bit"),
        memory_needs(OFFICIAL, BF16, "4bit"),
        memory_needs(OFFICIAL, BF16, offload=True),
    ]
    totals = [need.total_gb for need in needs]
    assert totals == sorted(totals, reverse=True)


def test_a_model_that_fits_is_told_with_both_numbers():
    flight = preflight(OFFICIAL, 23.5)
    assert flight.fits
    assert flight.line == f"needs {flight.needs_gb:.1f} GB of GPU memory; you have 23.5"


@pytest.mark.parametrize(
    ("has_gb", "offered", "not_offered"),
    [
        (16.0, ("--quantize 8bit", "--quantize 4bit", "--offload"), ("--dtype",)),
        (10.0, ("--quantize 4bit", "--offload"), ("8bit",)),
        (6.5, ("--offload",), ("bit",)),
        (2.0, ("compact", "--device cpu"), ("--offload", "bit")),
        (0.0, ("no GPU", "compact"), ("--offload", "bit")),
    ],
    ids=["16-gb", "10-gb", "6-gb", "2-gb", "none"],
)
def test_only_what_fits_is_offered(has_gb, offered, not_offered):
    line = preflight(OFFICIAL, has_gb).line
    assert all(text in line for text in offered)
    assert not any(text in line for text in not_offered)


def test_float32_is_offered_bfloat16():
    assert "--dtype bf16" in preflight(OFFICIAL, 23.5, torch.float32).line


def test_too_large_a_model_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(12e9), int(16e9)))
    cuda = torch.device("cuda")
    with pytest.raises(DeviceError, match=r"you have 12\.0; choose --quantize 8bit"):
        check_fits(OFFICIAL, cuda, BF16, None, offload=False)
    assert check_fits(OFFICIAL, cuda, BF16, "4bit", offload=False).fits
    assert check_fits(OFFICIAL, torch.device("cpu"), BF16, None, offload=False) is None
