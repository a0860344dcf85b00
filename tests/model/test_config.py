from __future__ import annotations

import pytest
from transformers import AutoConfig

from napari_virst.model.config import FusionConfig, VideoTowerConfig, VirstConfig, qwen2_config


@pytest.fixture(params=["official", "compact"])
def config(request) -> VirstConfig:
    if request.param == "official":
        return VirstConfig.official()
    return VirstConfig.compact(vocab_size=30, st_token_id=2, image_token_id=3)


def test_configuration_survives_a_file(config, tmp_path):
    config.save_pretrained(tmp_path)
    restored = VirstConfig.from_pretrained(tmp_path)
    assert restored.to_dict() == config.to_dict()
    for part in ("video_config", "text_config", "st_fusion_config", "segmenter_config"):
        assert type(getattr(restored, part)) is type(getattr(config, part))


def test_configuration_is_known_to_transformers(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), VirstConfig)


def test_rotary_base_survives_a_file(config, tmp_path):
    # Lost, transformers would silently read a published checkpoint with base 10 000.
    config.save_pretrained(tmp_path)
    assert VirstConfig.from_pretrained(tmp_path).text_config.rope_parameters["rope_theta"] == 1_000_000.0


def test_parts_may_be_given_as_objects_or_dictionaries():
    parts = {"video_config": VideoTowerConfig(image_size=64), "st_fusion_config": FusionConfig(num_st_tokens=4)}
    parts["text_config"] = qwen2_config(vocab_size=11)
    as_objects = VirstConfig(**parts)
    as_dictionaries = VirstConfig(**{name: part.to_dict() for name, part in parts.items()})
    assert as_objects.to_dict() == as_dictionaries.to_dict()
    assert as_dictionaries.video_config.patch_grid == 4


def test_settings_are_keyword_only():
    with pytest.raises(TypeError):
        VideoTowerConfig(448)


def test_two_configurations_share_no_part():
    first, second = VirstConfig(), VirstConfig()
    first.st_fusion_config.num_st_tokens = 1
    assert second.st_fusion_config.num_st_tokens == 10
