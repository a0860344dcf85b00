"""What the command line says: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.table import Table

STDERR = Console(stderr=True, highlight=False)
STDOUT = Console(highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with frames per second and time left; the yielded function takes the number done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TaskProgressColumn(text_format="{task.percentage:>3.0f}%", show_speed=False),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR, transient=False, disable=not STDERR.is_terminal) as bar:
        task = bar.add_task(title, total=total, rate="")

        def update(num_done: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=num_done, rate=f"{speed:.1f} frames/s" if speed else "")

        yield update


def note(text: str) -> None:
    """Say something to the person, beside the results; one line in a log, however long."""
    STDERR.print(text, markup=False, soft_wrap=not STDERR.is_terminal)


def as_options(text: str) -> str:
    """Return a sentence that names arguments of ``open_video`` with the options that stand for them."""
    return re.sub(
        r'\b(axes|channel|z)=(?:"(\w+)")?', lambda found: f"--{found[1]}" + (f" {found[2]}" if found[2] else ""), text
    )


def print_table(table: Table) -> None:
    """Print a table; in a file or a pipe no cell is broken into lines."""
    if not STDOUT.is_terminal:
        STDOUT.width = 10_000
    STDOUT.print(table)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object for a script."""
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
