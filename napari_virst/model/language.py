"""The words: prompt templates, and Qwen2 with visual tokens in the place of the image placeholder.

Shape legend: B videos, L ids of a prompt, V visual tokens, N = L - 1 + V tokens of the expanded prompt, S ST tokens,
D width of the language model, W words of the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Qwen2Model

from napari_virst.errors import InputError, QueryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from transformers import Qwen2Config

    from napari_virst.model.config import PromptStyle

IMAGE_TOKEN = "<image>"
"""Stands in a prompt for all visual tokens."""
ST_TOKEN = "[SEG]"
"""The published checkpoint's name for an ST token."""

TURN_END = "<|im_end|>"
"""Ends a turn of the conversation, an answer too."""

_SYSTEM = "You are a helpful assistant."
_QUESTIONS = (
    "What is {expression} in the Reference {modality}? Please respond with segmentation mask in the Target Image.",
    "What is {expression} in the Reference {modality}? Please output segmentation mask in the Target Image.",
    "Please find {expression} in the Reference {modality} and segment it in the Target Image.",
)
_QUESTIONS_TO_A_QUESTION = (
    "{expression} Please find it in the Reference {modality} and respond with segmentation mask in the Target Image.",
    "{expression} Please find it in the Reference {modality} and output segmentation mask in the Target Image.",
)
_ANSWERS = (
    "It is {tokens}.",
    "Sure, {tokens}.",
    "Sure, it is {tokens}.",
    "Sure, the segmentation result is {tokens}.",
)


def normalise_expression(expression: str) -> str:
    """Lower-case an expression and collapse its white space.

    Raises
    ------
    QueryError
        When nothing is left.
    """
    words = " ".join(expression.lower().split())
    if not words:
        raise QueryError(
            f'An expression must have words; got "{expression}"; type what to follow, e.g. "the red circle".'
        )
    return words


def build_question(expression: str, modality: str = "image", variant: int = 0) -> str:
    """Return the user's turn; an expression that ends in "?" has two variants, any other three."""
    words = normalise_expression(expression)
    variants = _QUESTIONS_TO_A_QUESTION if words.endswith("?") else _QUESTIONS
    # The expression goes in by replacement, so that braces in it stay what they are.
    request = _pick(variants, variant, "question").replace("{modality}", modality).replace("{expression}", words)
    return f"Reference {modality}: {IMAGE_TOKEN} \n{request}"


def build_answer(num_st_tokens: int = 10, variant: int = 0) -> str:
    """Return the assistant's turn: it is part of the input, and its ST tokens are read."""
    tokens = ", ".join(f"({i}) {ST_TOKEN}" for i in range(num_st_tokens))
    return _pick(_ANSWERS, variant, "answer").format(tokens=tokens)


def build_prompt(
    expression: str,
    modality: str = "image",
    question_variant: int = 0,
    answer_variant: int = 0,
    *,
    num_st_tokens: int = 10,
    style: PromptStyle = "chat",
) -> str:
    """Return the whole text of a prompt, with one ``<image>`` and ``num_st_tokens`` times ``[SEG]``.

    Parameters
    ----------
    expression
        What to follow; lower-cased, white space collapsed.
    modality
        The word for what is shown. The published evaluation says "image" for videos too.
    question_variant, answer_variant
        Which of the published wordings; without meaning in the compact style.
    num_st_tokens
        ST tokens to end with.
    style
        ``"chat"``: the published conversation of three turns. ``"compact"``: placeholder, expression, ST tokens.

    Raises
    ------
    QueryError
        When the expression has no words, or brings a reserved token of its own.
    InputError
        When there is no such variant.
    """
    _check_reserved(expression)
    if style == "compact":
        return f"{IMAGE_TOKEN} {normalise_expression(expression)}" + f" {ST_TOKEN}" * num_st_tokens
    turns = (
        ("system", _SYSTEM),
        ("user", build_question(expression, modality, question_variant)),
        ("assistant", build_answer(num_st_tokens, answer_variant)),
    )
    return _conversation(turns)


def build_open_prompt(question: str, modality: str = "image") -> str:
    """Return the prompt of a question in words: the same conversation, open where the assistant begins to speak.

    The question keeps its spelling; white space is collapsed.

    Raises
    ------
    QueryError
        When the question has no words, or brings a reserved token of its own.
    """
    _check_reserved(question)
    normalise_expression(question)
    turns = (("system", _SYSTEM), ("user", f"Reference {modality}: {IMAGE_TOKEN} \n{' '.join(question.split())}"))
    return _conversation(turns) + "<|im_start|>assistant\n"


def _conversation(turns: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<|im_start|>{role}\n{content}{TURN_END}\n" for role, content in turns)


def _check_reserved(text: str) -> None:
    if reserved := [token for token in (IMAGE_TOKEN, ST_TOKEN.lower(), "<|im_") if token in text.lower()]:
        raise QueryError(f'An expression must be free of reserved words; got "{reserved[0]}" in it; take it out.')


def _pick(variants: tuple[str, ...], variant: int, what: str) -> str:
    if not 0 <= variant < len(variants):
        raise InputError(
            f"The {what} variant must be one of 0…{len(variants) - 1}; got {variant}; choose one of these."
        )
    return variants[variant]


class LanguageModel(nn.Module):
    """Qwen2 without its head: grounding reads the hidden states of the ST tokens; :meth:`answer` borrows a head."""

    def __init__(self, config: Qwen2Config, *, st_token_id: int, image_token_id: int) -> None:
        super().__init__()
        self.model = Qwen2Model(config)
        self.st_token_id = st_token_id
        self.image_token_id = image_token_id

    def st_embeddings(self, input_ids_BL: Tensor) -> Tensor:
        """Return the input embeddings (B, S, D) of the ST tokens."""
        rows_BS = self._st_rows(input_ids_BL)
        return self.model.embed_tokens(input_ids_BL.gather(1, rows_BS))

    def forward(
        self,
        input_ids_BL: Tensor,
        visual_BVD: Tensor,
        st_embeddings_BSD: Tensor | None = None,
        attention_mask_BL: Tensor | None = None,
        *,
        return_all: bool = False,
    ) -> Tensor:
        """Read prompts.

        Parameters
        ----------
        input_ids_BL
            (B, L) int64; each row has one image placeholder and the same number S of ST tokens.
        visual_BVD
            (B, V, D) float, the visual tokens in time order.
        st_embeddings_BSD
            (B, S, D) float, to take the place of the ST tokens' own embeddings.
        attention_mask_BL
            (B, L), 1 on tokens and 0 on padding, which must follow the tokens.
        return_all
            Return every row instead of the ST tokens' rows; rows of padding have no meaning.

        Returns
        -------
        Tensor
            Hidden states after the final norm: (B, S, D) float, or (B, N, D) with ``return_all``.

        Raises
        ------
        InputError
            When placeholders or ST tokens are missing, or padding stands before a token.
        """
        _check_padding(attention_mask_BL)
        embeddings_BND = self.expand(input_ids_BL, visual_BVD, st_embeddings_BSD)
        # No mask: attention is causal and padding comes last, so no token that counts can see it. Without a mask the
        # fused causal kernel runs.
        hidden_BND = self.model(inputs_embeds=embeddings_BND, use_cache=False).last_hidden_state
        if return_all:
            return hidden_BND
        rows_BS = self.expanded_st_rows(input_ids_BL, visual_BVD.shape[1])
        return take_rows(hidden_BND, rows_BS)

    @torch.inference_mode()
    def answer(
        self,
        input_ids_1L: Tensor,
        visual_1VD: Tensor,
        head_WD: Tensor,
        stop_ids: Collection[int],
        max_new_tokens: int = 64,
    ) -> list[int]:
        """Speak: the most likely word, one after the other.

        Parameters
        ----------
        input_ids_1L
            (1, L) int64 with one image placeholder, ending where the answer begins.
        visual_1VD
            (1, V, D) float, the visual tokens in time order.
        head_WD
            (W, D) float, the vocabulary head, on this device; W words.
        stop_ids
            Ids that end the answer; they are not returned.
        max_new_tokens
            Longest answer.

        Returns
        -------
        Ids of the answer; the ST token is never among them.
        """
        step_1ND, cache = self.expand(input_ids_1L, visual_1VD), DynamicCache(config=self.model.config)
        spoken: list[int] = []
        while len(spoken) < max_new_tokens:
            hidden_1ND = self.model(inputs_embeds=step_1ND, past_key_values=cache, use_cache=True).last_hidden_state
            logits_W = (head_WD @ hidden_1ND[0, -1].to(head_WD.dtype)).float()
            if self.st_token_id < len(logits_W):
                logits_W[self.st_token_id] = -torch.inf
            word = int(logits_W.argmax())
            if word in stop_ids:
                break
            spoken.append(word)
            step_1ND = self.model.embed_tokens(input_ids_1L.new_tensor([[word]]))
        return spoken

    def expand(self, input_ids_BL: Tensor, visual_BVD: Tensor, st_embeddings_BSD: Tensor | None = None) -> Tensor:
        """Return the model's input (B, N, D): embeddings, with the visual tokens in the placeholder's place."""
        is_image_BL = input_ids_BL == self.image_token_id
        words_BLD = self.model.embed_tokens(input_ids_BL.masked_fill(is_image_BL, 0))
        if st_embeddings_BSD is not None:
            is_st_BL1 = (input_ids_BL == self.st_token_id)[..., None]
            words_BLD = words_BLD.masked_scatter(is_st_BL1, st_embeddings_BSD.to(words_BLD.dtype))
        num_words, num_visual = words_BLD.shape[1], visual_BVD.shape[1]
        row_N = torch.arange(num_words - 1 + num_visual, device=words_BLD.device)
        visual_row_BN = row_N - self._placeholder(input_ids_BL)[:, None]
        word_row_BN = row_N - (num_visual - 1) * (visual_row_BN >= num_visual)
        is_visual_BN = (visual_row_BN >= 0) & (visual_row_BN < num_visual)
        source_BN = torch.where(is_visual_BN, num_words + visual_row_BN, word_row_BN)
        return take_rows(torch.cat([words_BLD, visual_BVD.to(words_BLD.dtype)], dim=1), source_BN)

    def expanded_st_rows(self, input_ids_BL: Tensor, num_visual: int) -> Tensor:
        """Return the rows (B, S) int64 of the ST tokens in the expanded prompt."""
        rows_BS = self._st_rows(input_ids_BL)
        return rows_BS + (num_visual - 1) * (rows_BS > self._placeholder(input_ids_BL)[:, None])

    def _st_rows(self, input_ids_BL: Tensor) -> Tensor:
        is_st_BL = input_ids_BL == self.st_token_id
        counts = is_st_BL.sum(1).tolist()
        if not counts[0] or len(set(counts)) > 1:
            raise InputError(
                f"Every prompt must hold the same number of ST tokens (id {self.st_token_id}); got {counts}; "
                "build prompts with build_prompt."
            )
        return is_st_BL.nonzero()[:, 1].view(len(counts), counts[0])

    def _placeholder(self, input_ids_BL: Tensor) -> Tensor:
        is_image_BL = input_ids_BL == self.image_token_id
        counts = is_image_BL.sum(1).tolist()
        if set(counts) != {1}:
            raise InputError(
                f"Every prompt must hold one image placeholder (id {self.image_token_id}); got {counts}; "
                "build prompts with build_prompt."
            )
        return is_image_BL.int().argmax(1)


def take_rows(x_BND: Tensor, rows_BK: Tensor) -> Tensor:
    """Return rows (B, K) of (B, N, D): (B, K, D)."""
    return x_BND.gather(1, rows_BK[..., None].expand(-1, -1, x_BND.shape[-1]))


def _check_padding(attention_mask_BL: Tensor | None) -> None:
    if attention_mask_BL is not None and bool((attention_mask_BL.int().diff(dim=1) > 0).any()):
        raise InputError("Padding must follow the tokens of a prompt; got padding before one; pad on the right.")
