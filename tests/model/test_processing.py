from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_virst.errors import InputError, QueryError, VideoError
from napari_virst.model.config import VirstConfig
from napari_virst.model.processing import (
    VirstProcessor,
    build_word_tokenizer,
    masks_from_logits,
    sample_vlm_frames,
    spread_evenly,
)

WORDS = ["the red circle", "Blue", "square?", "left-most", "cell's"]


def processor_with(**options) -> VirstProcessor:
    defaults = {"video_size": 32, "segmenter_size": 48, "prompt_style": "compact", "num_st_tokens": 2}
    return VirstProcessor(build_word_tokenizer(WORDS), **(defaults | options))


@pytest.fixture
def processor() -> VirstProcessor:
    return processor_with()


@pytest.fixture
def frames() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8))


def words_of(processor: VirstProcessor, ids: torch.Tensor) -> list[str]:
    return processor.tokenizer.convert_ids_to_tokens(ids.tolist())


def test_text_becomes_placeholder_words_and_st_tokens(processor):
    ids = processor.text_ids(" The  RED circle")["input_ids"]
    assert words_of(processor, ids[0]) == ["<image>", "the", "red", "circle", "[SEG]", "[SEG]"]


def test_a_batch_is_padded_on_the_right(processor):
    encoded = processor.text_ids(["blue", "the red circle"])
    assert words_of(processor, encoded["input_ids"][0]) == ["<image>", "blue", "[SEG]", "[SEG]", "[PAD]", "[PAD]"]
    assert encoded["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]


def test_punctuation_separates_words(processor):
    ids = processor.text_ids("cell's left-most square?")["input_ids"]
    assert words_of(processor, ids[0])[1:-2] == ["cell", "'", "s", "left", "-", "most", "square", "?"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("the giraffe", True),
        ("find the one in this picture xyzzy", True),
        ("的红色圆圈", True),
        ("the red giraffe", False),
        ("the red circle", False),
    ],
    ids=["an unknown thing", "nameless words", "another script", "a known colour", "all known"],
)
def test_unknown_words_among_nameless_ones_name_nothing(processor, expression, expected):
    assert processor.names_nothing(expression) is expected


def test_unknown_words_are_named_once_in_their_order(processor):
    assert processor.unknown_words("the Giraffe and the blue giraffe, a zebra!") == ("giraffe", "and", "a", "zebra")
    assert processor.unknown_words("the red circle!") == ()


def test_word_ids_do_not_depend_on_the_order_of_words():
    assert build_word_tokenizer(WORDS).get_vocab() == build_word_tokenizer(reversed(WORDS * 2)).get_vocab()


def test_placeholder_can_have_an_id_outside_the_vocabulary():
    assert processor_with(image_token_id=-200).text_ids("blue")["input_ids"][0, 0] == -200


def test_reserved_tokens_are_added_to_a_tokenizer_without_them():
    tokenizer = build_word_tokenizer(WORDS, st_token="[A]", image_token="[B]")
    size = len(tokenizer)
    processor = VirstProcessor(tokenizer)
    assert processor.st_token_id == size
    assert processor.text_ids("blue")["input_ids"].eq(size + 1).sum() == 1


@pytest.mark.parametrize("text", ["", "  "], ids=["empty", "white space"])
def test_text_without_words_is_refused(processor, text):
    with pytest.raises(QueryError, match="must have words"):
        processor.text_ids(text)


def test_processor_survives_a_folder(tmp_path):
    config = VirstConfig.compact(vocab_size=30, st_token_id=2, image_token_id=3)
    processor = VirstProcessor.from_config(config, build_word_tokenizer(WORDS))
    processor.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    restored = VirstProcessor.from_pretrained(tmp_path)
    assert restored.to_dict() == processor.to_dict()
    text = ["the red circle", "a blue giraffe?"]
    assert torch.equal(restored.text_ids(text)["input_ids"], processor.text_ids(text)["input_ids"])
    assert restored.unknown_words("giraffe") == ("giraffe",)


def test_saved_settings_name_everything_that_changes_numbers(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["resize_preset"] == "default"
    assert {"image_mean", "image_std", "video_size", "segmenter_size", "prompt_style", "num_st_tokens"} <= saved.keys()


def test_a_foreign_tokenizer_is_refused():
    config = VirstConfig.compact(vocab_size=30, st_token_id=17, image_token_id=3)
    with pytest.raises(InputError, match=r"must give \[SEG\] the id 17; got 2"):
        VirstProcessor.from_config(config, build_word_tokenizer(WORDS))


def test_pixels_are_squashed_and_normalised(processor):
    white, black = np.full((20, 30, 3), 255, np.uint8), np.zeros((20, 30, 3), np.uint8)
    pixels = processor.video_pixels([white, black])
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels.dtype == torch.float32
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    torch.testing.assert_close(pixels[:, :, 5, 7], torch.stack([(1 - mean) / std, -mean / std]))


def test_default_filter_is_the_same_everywhere(frames):
    processor = processor_with(video_size=48)
    assert processor.shares_segmenter_features
    pixels = processor.segmenter_pixels(frames, "propagation")
    assert torch.equal(processor.segmenter_pixels(frames, "prompter"), pixels)
    assert torch.equal(processor.video_pixels(frames), pixels)


def test_reference_filters_differ_between_prompter_and_propagation(frames):
    processor = processor_with(resize_preset="reference", video_size=48)
    assert not processor.shares_segmenter_features
    propagation = processor.segmenter_pixels(frames)
    assert not torch.equal(processor.segmenter_pixels(frames, "prompter"), propagation)
    assert torch.equal(processor.video_pixels(frames), propagation)
    bilinear = np.asarray(Image.fromarray(frames[0]).resize((48, 48), Image.Resampling.BILINEAR))
    expected = torch.from_numpy(bilinear.copy()).permute(2, 0, 1) / 255
    found = processor.segmenter_pixels(frames[:1], "prompter")[0]
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    torch.testing.assert_close(found * std + mean, expected, rtol=0, atol=1e-6)


def test_frames_are_left_as_they_are(processor, frames):
    copies = [frame.copy() for frame in frames]
    processor.segmenter_pixels(frames)
    assert all(np.array_equal(a, b) for a, b in zip(frames, copies, strict=True))


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "RGBA", "float"],
)
def test_frames_of_another_kind_are_refused(processor, frame):
    with pytest.raises(VideoError, match=r"must be \(H, W, 3\) uint8"):
        processor.video_pixels([frame])


def test_unknown_preset_is_refused():
    with pytest.raises(InputError, match="resize_preset must be one of"):
        processor_with(resize_preset="nearest")


def test_a_whole_clip_is_prepared_at_once(processor, frames):
    prepared = processor(frames, ["blue", "the red circle"])
    assert prepared["video_pixels"].shape == (8, 3, 32, 32)
    assert prepared["segmenter_pixels"].shape == (8, 3, 48, 48)
    assert prepared["input_ids"].shape == (2, 6)


@given(st.integers(1, 400), st.integers(4, 64), st.sampled_from([1, 2, 4]))
def test_sampled_frames_fill_whole_clips_in_order(num_frames, max_frames, per_clip):
    frames = sample_vlm_frames(num_frames, max_frames, per_clip)
    assert len(frames) % per_clip == 0
    assert 0 < len(frames) <= max_frames
    assert list(frames) == sorted(frames)
    assert frames[0] >= 0
    assert frames[-1] < num_frames
    if num_frames > 8:
        assert len(set(frames)) == len(frames)


def test_a_short_video_repeats_its_last_frame():
    assert sample_vlm_frames(3) == (0, 1, 2, 2, 2, 2, 2, 2)
    assert sample_vlm_frames(3, max_frames=4) == (0, 1, 2, 2)


def test_a_video_without_frames_is_refused():
    with pytest.raises(VideoError, match="at least one frame"):
        sample_vlm_frames(0)


def test_less_than_a_clip_is_refused():
    with pytest.raises(InputError, match="must hold a clip of 4; got 3"):
        sample_vlm_frames(20, max_frames=3)


@given(st.integers(1, 100), st.integers(1, 64))
def test_spread_positions_are_distinct_and_start_at_the_first(num_items, max_items):
    positions = spread_evenly(num_items, max_items)
    assert len(positions) == min(num_items, max_items) == len(set(positions))
    assert positions[0] == 0
    if max_items > 1:
        assert positions[-1] == num_items - 1


def test_segmentation_frames_are_some_of_the_sampled_frames():
    sample = VirstProcessor(build_word_tokenizer([])).sample_frames(200)
    assert (len(sample.vlm), len(sample.segmentation)) == (64, 32)
    assert set(sample.segmentation) <= set(sample.vlm)
    assert sample.segmentation[0] == sample.vlm[0]
    assert sample.segmentation[-1] == sample.vlm[-1]


def test_masks_have_video_size_and_a_strict_threshold():
    logits = torch.zeros(2, 4, 4)
    logits[0, :, :2] = 1.0
    logits[0, :, 2:] = -1.0
    masks = masks_from_logits(logits, (8, 12))
    assert masks.shape == (2, 8, 12)
    assert masks.dtype == torch.bool
    assert not masks[1].any()
    assert masks[0, :, :6].all()
    assert not masks[0, :, 6:].any()


def test_other_filters_leave_the_processor_as_it_is(processor):
    other = processor.with_resize_preset("reference")
    assert (other.resize_preset, processor.resize_preset) == ("reference", "default")
    assert other.tokenizer is processor.tokenizer


def test_counts_of_one_call_win_over_the_processors():
    sample = processor_with(num_vlm_frames=16, num_segmentation_frames=8).sample_frames(40, 8, 4)
    assert (len(sample.vlm), len(sample.segmentation)) == (8, 4)
