"""Answers in words: greedy, from the head that lies beside the weights, and only where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.frames import draw_moving_disc
from fixtures.published import CONFIG, save_checkpoint, save_tokenizer
from safetensors.torch import load_file

from napari_virst.engine.conversion import convert
from napari_virst.engine.predictor import load_segmenter
from napari_virst.errors import CheckpointError, QueryError

NEVER = lambda: False  # noqa: E731


class Disc:
    fingerprint = "disc"

    def __init__(self):
        self.pixels = draw_moving_disc(9, (40, 56), 7).pixels
        self.shape = self.pixels.shape

    def __getitem__(self, frame):
        return np.ascontiguousarray(self.pixels[frame])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    files, out = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("speaking")
    convert(save_checkpoint(files / "virst.pt"), out, config=CONFIG, tokenizer=save_tokenizer(files / "words"))
    return out


@pytest.fixture(scope="module")
def speaking(folder):
    return load_segmenter(folder, "cpu")


@torch.no_grad()
def answer_without_cache(predictor, head_WD, ids_1L, visual_1VD, num_words):
    """Read the whole prompt again for every word."""
    language, spoken = predictor._model.language, []
    for _ in range(num_words):
        ids = torch.cat([ids_1L, torch.tensor([spoken], dtype=torch.int64)], 1)
        hidden = language.model(inputs_embeds=language.expand(ids, visual_1VD)).last_hidden_state[0, -1]
        logits = head_WD @ hidden
        logits[300] = -torch.inf
        spoken.append(int(logits.argmax()))
    return spoken


def test_answer_is_the_most_likely_word_again_and_again(speaking, folder):
    model, processor = speaking._model, speaking._processor
    ids_1L = processor.question_ids("word5 word6?").input_ids
    visual_1VD = torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(0))
    head_WD = load_file(folder / "lm_head.safetensors")["lm_head.weight"].float()
    expected = answer_without_cache(speaking, head_WD, ids_1L, visual_1VD, 12)
    assert model.explain(visual_1VD, ids_1L, head_WD, frozenset(), 12) == expected
    stopped = model.explain(visual_1VD, ids_1L, head_WD, {expected[4]}, 12)
    assert stopped == expected[: expected.index(expected[4])]


def test_question_ends_where_the_answer_begins(speaking):
    processor = speaking._processor
    ids = processor.question_ids("word5?").input_ids[0].tolist()
    assert ids.count(-200) == 1
    assert processor.st_token_id not in ids
    assert ids.count(298) == 3  # <|im_start|> of system, user and assistant
    assert ids.count(299) == 2  # the assistant's turn is open
    assert processor.stop_token_ids == {297, 299}


def test_explain_returns_words(speaking):
    answer = speaking.explain(Disc(), "word3 word4?")
    assert answer
    assert all(word.startswith("word") for word in answer.split())
    assert answer == speaking.explain(Disc(), "word3 word4?")


def test_explain_stops_when_told(speaking):
    assert speaking.explain(Disc(), "word3?", lambda: True) == ""


@pytest.mark.parametrize("question", ["", "  ", "<image>", "[SEG]"])
def test_impossible_question_is_refused(speaking, question):
    with pytest.raises(QueryError):
        speaking.explain(Disc(), question)


def test_compact_model_has_no_words_to_answer_with(tiny_model_folder):
    with pytest.raises(QueryError, match="no words to answer with"):
        load_segmenter(tiny_model_folder, "cpu").explain(Disc(), "what is this?")


def test_missing_and_damaged_head_are_told_apart(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    predictor = load_segmenter(tmp_path, "cpu")
    head = tmp_path / "lm_head.safetensors"
    head.write_bytes(head.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        predictor.explain(Disc(), "word3?")
    head.unlink()
    with pytest.raises(CheckpointError, match=r"convert again"):
        predictor.explain(Disc(), "word3?")


def test_masks_do_not_need_the_head(folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "lm_head.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    names = dict(load_segmenter(tmp_path, "cpu")._model.named_parameters())
    assert not [name for name in names if "head.weight" in name and "lm" in name]
