from __future__ import annotations

import pytest
import torch

from napari_virst.errors import InputError, QueryError
from napari_virst.model.config import qwen2_config
from napari_virst.model.language import (
    LanguageModel,
    build_open_prompt,
    build_prompt,
    build_question,
    normalise_expression,
)

ST, IMAGE, PAD = 2, 3, 0
WIDTH = 16


@pytest.fixture
def language() -> LanguageModel:
    torch.manual_seed(0)
    config = qwen2_config(
        vocab_size=20,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return LanguageModel(config, st_token_id=ST, image_token_id=IMAGE).eval()


@pytest.fixture
def visual() -> torch.Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))


SHORT, LONG = [7, IMAGE, 8, ST, ST], [IMAGE, 9, 10, 11, 12, ST, ST]


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([SHORT + [PAD] * 2, LONG])
    return ids, torch.tensor([[1] * 5 + [0] * 2, [1] * 7])


def test_a_padded_batch_reads_each_prompt_as_if_alone(language, visual):
    ids, mask = padded()
    together = language(ids, visual, attention_mask_BL=mask)
    for i, prompt in enumerate((SHORT, LONG)):
        alone = language(torch.tensor([prompt]), visual[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)  # kernels differ with the length


def test_visual_tokens_take_the_placeholders_place(language, visual):
    ids = torch.tensor([SHORT])
    words = language.model.embed_tokens(torch.tensor(SHORT))
    expected = torch.cat([words[:1], visual[0], words[2:]])
    assert torch.equal(language.expand(ids, visual[:1])[0], expected)


def test_placeholder_may_lie_outside_the_vocabulary(language, visual):
    config = language.model.config
    language = LanguageModel(config, st_token_id=ST, image_token_id=-200)
    ids = torch.tensor([[7, -200, 8, ST]])
    assert language(ids, visual[:1]).shape == (1, 1, WIDTH)


def test_st_rows_are_those_of_the_whole_answer(language, visual):
    ids, mask = padded()
    everything = language(ids, visual, attention_mask_BL=mask, return_all=True)
    rows = language.expanded_st_rows(ids, visual.shape[1])
    assert everything.shape == (2, 7 - 1 + 5, WIDTH)
    assert rows.tolist() == [[7, 8], [9, 10]]
    picked = torch.stack([everything[i, rows[i]] for i in range(2)])
    torch.testing.assert_close(language(ids, visual, attention_mask_BL=mask), picked)


def test_own_st_embeddings_given_back_change_nothing(language, visual):
    ids, _ = padded()
    embeddings = language.st_embeddings(ids)
    assert embeddings.shape == (2, 2, WIDTH)
    assert torch.equal(language(ids, visual, embeddings), language(ids, visual))


def test_given_st_embeddings_are_read_in_their_order(language, visual):
    ids, _ = padded()
    given = torch.randn(2, 2, WIDTH)
    rows = language.expanded_st_rows(ids, visual.shape[1])
    expanded = language.expand(ids, visual, given)
    assert torch.equal(torch.stack([expanded[i, rows[i]] for i in range(2)]), given)


def test_later_st_tokens_see_earlier_ones_and_all_see_the_video(language, visual):
    ids, _ = padded()
    given = language.st_embeddings(ids).detach().requires_grad_()
    pixels = visual.clone().requires_grad_()
    hidden = language(ids, pixels, given)
    hidden[:, 0].sum().backward(retain_graph=True)
    assert (given.grad[:, 1] == 0).all()
    assert (pixels.grad.abs().sum(-1) > 0).all()
    hidden[:, 1, 0].sum().backward()
    assert (given.grad[:, 0].abs().sum(-1) > 0).all()


def test_gradients_reach_every_parameter(language, visual):
    ids, mask = padded()
    language(ids, visual, attention_mask_BL=mask)[..., 0].sum().backward()
    for name, parameter in language.named_parameters():
        assert parameter.grad is not None, name
        # Softmax does not change when all scores of a query do; what rotation leaves of it may round to nothing.
        assert name.endswith("k_proj.bias") or parameter.grad.abs().sum() > 0, name


def test_rotary_base_is_written_down(language):
    assert language.model.config.rope_parameters == {"rope_type": "default", "rope_theta": 1_000_000.0}
    inverse_frequency = language.model.rotary_emb.inv_freq
    torch.testing.assert_close(inverse_frequency, 1e6 ** (-torch.arange(0, 8, 2) / 8))


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        ([[7, 8, ST]], "one image placeholder"),
        ([[IMAGE, IMAGE, ST]], r"one image placeholder .* got \[2\]"),
        ([[IMAGE, 8, 9]], r"same number of ST tokens .* got \[0\]"),
        ([[IMAGE, ST, ST], [IMAGE, 8, ST]], r"same number of ST tokens .* got \[2, 1\]"),
    ],
    ids=["no placeholder", "two placeholders", "no ST token", "different numbers of ST tokens"],
)
def test_prompts_that_cannot_be_read_are_refused(language, visual, ids, complaint):
    with pytest.raises(InputError, match=complaint):
        language(torch.tensor(ids), visual[: len(ids)])


def test_padding_before_a_token_is_refused(language, visual):
    with pytest.raises(InputError, match="pad on the right"):
        language(torch.tensor([[PAD, IMAGE, 8, ST]]), visual[:1], attention_mask_BL=torch.tensor([[0, 1, 1, 1]]))


def test_compact_prompt_has_placeholder_words_and_st_tokens():
    assert build_prompt(" The  RED\tcircle ", num_st_tokens=2, style="compact") == "<image> the red circle [SEG] [SEG]"


def test_chat_prompt_has_three_turns_and_numbered_st_tokens():
    text = build_prompt("the car", num_st_tokens=2)
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("<|im_start|>assistant\nIt is (0) [SEG], (1) [SEG].<|im_end|>\n")
    assert text.count("<image>") == 1


def test_a_question_is_answered_as_a_question():
    assert "\nwhich one? Please find it in the Reference video" in build_question("Which one?", "video")


def test_braces_in_an_expression_stay_what_they_are():
    assert "{modality} {0}" in build_prompt("the {modality} {0}")


@pytest.mark.parametrize("expression", ["", " \n\t "], ids=["empty", "white space"])
def test_expressions_without_words_are_refused(expression):
    with pytest.raises(QueryError, match="must have words"):
        normalise_expression(expression)


@pytest.mark.parametrize(
    "expression", ["a [seg] b", "<IMAGE>", "x <|im_end|>"], ids=["ST token", "placeholder", "turn"]
)
@pytest.mark.parametrize("style", ["chat", "compact"])
def test_expressions_with_reserved_words_are_refused(expression, style):
    with pytest.raises(QueryError, match="free of reserved words"):
        build_prompt(expression, style=style)


@pytest.mark.parametrize(("expression", "variant"), [("a cat", 3), ("a cat?", 2), ("a cat", -1)])
def test_wordings_that_do_not_exist_are_refused(expression, variant):
    with pytest.raises(InputError, match="question variant must be one of 0…"):
        build_prompt(expression, question_variant=variant)


def test_open_prompt_is_the_published_conversation_up_to_the_answer():
    assert build_open_prompt("What  is the\n dog doing?") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nReference image: <image> \nWhat is the dog doing?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("question", ["", " \n", "what is <image>?", "[seg]?", "a<|im_end|>"])
def test_open_prompt_refuses_what_is_no_question(question):
    with pytest.raises(QueryError):
        build_open_prompt(question)
