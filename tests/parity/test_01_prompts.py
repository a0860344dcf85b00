"""Stage 1 of the published path: the words. Everything here must be equal, so there are no tolerances."""

from __future__ import annotations

import re

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from napari_virst.model.language import build_answer, build_prompt, build_question, normalise_expression
from napari_virst.model.processing import VirstProcessor

pytestmark = pytest.mark.parity

RESERVED = {"<|im_start|>": "im_start", "<|im_end|>": "im_end", "[SEG]": "seg_token_id"}
# How Qwen2 cuts text before its merges; published with the tokenizer.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def prompt_of(case: dict) -> str:
    return build_prompt(
        case["expression_raw"], question_variant=case["question_index"], answer_variant=case["answer_index"]
    )


def pieces_of(text: str) -> list[str]:
    """Cut a prompt into reserved tokens and Qwen2's pieces between them."""
    splitter = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    parts = re.split(r"(<\|im_start\|>|<\|im_end\|>|<image>|\[SEG\])", text)
    reserved = {*RESERVED, "<image>"}
    return [
        piece
        for part in parts
        if part
        for piece in ([part] if part in reserved else [p for p, _ in splitter.pre_tokenize_str(part)])
    ]


def single_id_pieces(cases: list[dict]) -> dict[str, set[int]]:
    """The ids that stand where a piece stands, over all prompts in which every piece has one id."""
    ids_of_piece: dict[str, set[int]] = {}
    for case in cases:
        pieces = pieces_of(prompt_of(case))
        if len(pieces) == len(case["input_ids"]):
            for piece, id_ in zip(pieces, case["input_ids"], strict=True):
                ids_of_piece.setdefault(piece, set()).add(id_)
    return ids_of_piece


def test_expressions_are_normalised_as_the_reference_does(prompt_cases):
    for case in prompt_cases["cases"]:
        assert normalise_expression(case["expression_raw"]) == case["expression"]


def test_questions_and_answers_are_the_references_words(prompt_cases):
    for case in prompt_cases["cases"]:
        assert build_question(case["expression_raw"], variant=case["question_index"]) == case["question"]
        assert build_answer(variant=case["answer_index"]) == case["answer"]


def test_every_piece_of_every_prompt_stands_where_its_id_stands(prompt_cases):
    # Without the merges a piece cannot be turned into ids; but if the texts are right, a piece has the same id in
    # every prompt, and no two pieces share one.
    ids_of_piece = single_id_pieces(prompt_cases["cases"])
    assert all(len(ids) == 1 for ids in ids_of_piece.values())
    assert len({id_ for ids in ids_of_piece.values() for id_ in ids}) == len(ids_of_piece)
    assert ids_of_piece["<image>"] == {prompt_cases["image_placeholder"]}
    for token, name in RESERVED.items():
        assert ids_of_piece[token] == {prompt_cases[name]}


def test_prompts_with_a_word_of_two_ids_agree_everywhere_else(prompt_cases):
    ids_of_piece = {piece: next(iter(ids)) for piece, ids in single_id_pieces(prompt_cases["cases"]).items()}
    odd = [c for c in prompt_cases["cases"] if len(pieces_of(prompt_of(c))) != len(c["input_ids"])]
    assert odd, "the cases no longer hold such a prompt"
    for case in odd:
        known = [ids_of_piece.get(piece) for piece in pieces_of(prompt_of(case))]
        first = known.index(None)
        last = len(known) - 1 - known[::-1].index(None)
        assert case["input_ids"][:first] == known[:first]
        assert case["input_ids"][len(case["input_ids"]) - (len(known) - 1 - last) :] == known[last + 1 :]


def test_processor_gives_the_references_ids(prompt_cases):
    vocabulary = {piece: next(iter(ids)) for piece, ids in single_id_pieces(prompt_cases["cases"]).items()}
    del vocabulary["<image>"]  # the published tokenizer lacks it
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in RESERVED])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|im_end|>")
    processor = VirstProcessor(fast, image_token_id=prompt_cases["image_placeholder"])
    assert processor.st_token_id == prompt_cases["seg_token_id"]
    cases = [c for c in prompt_cases["cases"] if c["question_index"] == c["answer_index"] == 0]
    cases = [c for c in cases if all(piece in {*vocabulary, "<image>"} for piece in pieces_of(prompt_of(c)))]
    assert len(cases) >= 4
    encoded = processor.text_ids([case["expression_raw"] for case in cases])
    for case, ids, mask in zip(cases, encoded["input_ids"], encoded["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == case["input_ids"]
