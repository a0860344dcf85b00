from __future__ import annotations

import json

import pytest
from fixtures.published import CONFIG

from napari_virst.errors import CheckpointError
from napari_virst.model.config import VirstConfig
from napari_virst.model.published_config import PublishedSizes, fusion_config, lora_scaling

FUSION = json.loads(CONFIG.read_text())["st_fusion"]


@pytest.mark.parametrize(
    ("cells", "grid", "expected"), [(64, 8, 3), (16, 2, 3), (20, 3, 3), (12, 2, 3), (20, 20, 0), (2, 1, 1)]
)
def test_convolutions_halve_the_map_rounding_up(cells, grid, expected):
    assert fusion_config(FUSION | {"grid_hw": grid}, cells).num_downsamples == expected


def test_grid_that_no_halving_reaches_is_refused():
    with pytest.raises(ValueError, match="halved; got 4"):
        fusion_config(FUSION | {"grid_hw": 4}, 20)


def test_official_scale_of_lora_is_a_quarter():
    sizes = PublishedSizes.official()
    assert (sizes.lora_scaling, sizes.lora_rank) == (0.25, 64)
    assert isinstance(sizes.config, VirstConfig)


@pytest.mark.parametrize(("rank", "alpha", "scale"), [(8, 4, 0.5), (4, 6, 1.5), (64, 16, 0.25)])
def test_scale_is_alpha_over_rank(rank, alpha, scale):
    assert lora_scaling({"r": rank, "alpha": alpha, "scaling": 99.0}) == scale


@pytest.mark.parametrize("missing", ["llm", "lora", "vision_tower", "projector", "sam2", "st_fusion", "tokens"])
def test_missing_section_is_named(tmp_path, missing):
    content = json.loads(CONFIG.read_text())
    del content[missing]
    (tmp_path / "sizes.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=missing):
        PublishedSizes.read(tmp_path / "sizes.json")
