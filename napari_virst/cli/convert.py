"""``napari-virst convert``: the authors' checkpoint becomes a model folder."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from napari_virst.cli.report import STDERR, STDOUT, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_virst.engine.conversion import ConversionReport


def run_conversion(
    checkpoint: Path,
    out: Path,
    *,
    base: str | None,
    sam2: str | None,
    tokenizer: str | None,
    config: Path | None,
    dtype: str,
    without_initial_fusion: bool,
) -> ConversionReport:
    """Convert with a progress bar in bytes.

    Raises
    ------
    CheckpointError
        When a file cannot be used, or something in it is missing or unknown.
    DeviceError
        When the disk has too little room.
    """
    with STDERR.status("waking torch"):
        from napari_virst.engine.conversion import convert
    with _byte_bar("converting") as update:
        return convert(
            checkpoint,
            out,
            base=base,
            sam2=sam2,
            tokenizer=tokenizer,
            config=config,
            dtype=dtype,
            without_initial_fusion=without_initial_fusion,
            on_progress=update,
        )


def show(report: ConversionReport, out: Path) -> None:
    """Say what came from where."""
    table = Table(title=f"{report.num_tensors} tensors, {report.num_bytes / 1e9:.2f} GB in {report.dtype}")
    for column in ("part", "tensors", "from"):
        table.add_column(column)
    for group, counts in report.groups.items():
        for source, count in counts.items():
            table.add_row(group, str(count), source)
    STDOUT.print(table)
    reasons = {reason: [n for n, why in report.dropped.items() if why == reason] for reason in report.dropped.values()}
    for reason, names in reasons.items():
        note(f"Left out: {', '.join(sorted(names)[:4])}{', …' if len(names) > 4 else ''}: {reason}.")
    for remark in report.notes:
        note(remark)
    if report.num_files_kept:
        note(f"{report.num_files_kept} of {report.num_files} files were already there and whole.")
    STDOUT.print(f"The model is in {out}; use it with --model {out}")


@contextmanager
def _byte_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR, disable=not STDERR.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
