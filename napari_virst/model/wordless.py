"""A processor for a model that was converted without a tokenizer: pixels and masks work, words do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_virst.errors import QueryError
from napari_virst.model.processing import VirstProcessor, build_word_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BatchFeature

    from napari_virst.model.config import VirstConfig


class WordlessProcessor(VirstProcessor):
    """Prepares frames; refuses text with a sentence that says why."""

    folder = "the model folder"

    @classmethod
    def of(cls, config: VirstConfig, folder: str) -> WordlessProcessor:
        """Return the processor of the model in ``folder``."""
        processor = cls(build_word_tokenizer([]), **cls.settings_of(config))
        processor.folder = folder
        return processor

    def text_ids(self, expressions: str | Sequence[str]) -> BatchFeature:
        """Refuse.

        Raises
        ------
        QueryError
            Always.
        """
        raise self._no_words()

    def question_ids(self, question: str) -> BatchFeature:
        """Refuse, as :meth:`text_ids`.

        Raises
        ------
        QueryError
            Always.
        """
        raise self._no_words()

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """Return nothing: no word is known, and :meth:`text_ids` says so."""
        return ()

    def _no_words(self) -> QueryError:
        return QueryError(
            f'Text must have a tokenizer; "{self.folder}" holds none; convert again with --tokenizer, '
            "or give a mask to follow instead of words."
        )
