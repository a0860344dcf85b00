"""Callbacks that never raise: an exception inside a layer event breaks napari's drag, inside a Qt slot the program."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from napari_virst.errors import VirstError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

ParamsT = ParamSpec("ParamsT")


class Reporter(Protocol):
    """Something with a message line."""

    def report(self, text: str) -> None:
        """Show ``text`` as an error."""


ReporterT = TypeVar("ReporterT", bound=Reporter)


def guarded(
    method: Callable[Concatenate[ReporterT, ParamsT], None],
) -> Callable[Concatenate[ReporterT, ParamsT], None]:
    """Turn whatever ``method`` raises into a sentence in the message line, and into a traceback in the log."""

    @wraps(method)
    def call(self: ReporterT, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except VirstError as error:
            self.report(str(error))
        except Exception as error:
            logger.exception("%s failed", method.__qualname__)
            self.report(f"Something went wrong ({type(error).__name__}: {error}); the log has the details.")

    return call
