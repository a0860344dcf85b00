"""The command line: ``napari-virst demo | segment | info | train``.

Exit status: 0 done; 2 the command was typed wrongly; 3 the video, a mask or a query cannot be used; 4 the model or
the device cannot be used; 5 the model failed while running; 130 stopped with Ctrl+C, finished frames kept.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_virst.cli.report import STDERR, print_json
from napari_virst.errors import CheckpointError, DeviceError, InputError, VirstError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.engine.protocol import Segmenter

app = typer.Typer(
    name="napari-virst",
    help="Describe what to follow in a video; get editable label masks; fix a few frames and the rest follows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[str, typer.Option("--model", help='"compact" (bundled) or a model folder.')]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def exit_status(error: VirstError) -> int:
    """Return the exit status that an error stands for."""
    if isinstance(error, InputError):
        return 3
    return 4 if isinstance(error, CheckpointError | DeviceError) else 5


def run() -> None:
    """Run the command line; errors of ours become one sentence and an exit status."""
    try:
        app()
    except VirstError as error:
        STDERR.print(f"[bold red]Error:[/] {error}", markup=True, soft_wrap=True)
        sys.exit(exit_status(error))
    except KeyboardInterrupt:
        STDERR.print("Stopped.")
        sys.exit(130)


def wake(model: str, device: str) -> Callable[[], Segmenter]:
    """Return a function that loads the model when it is first needed, once."""

    @cache
    def load() -> Segmenter:
        from napari_virst.engine.predictor import load_segmenter

        with STDERR.status("waking the model"):
            return load_segmenter(model, device)

    return load


@app.command()
def segment(
    video: Annotated[str, typer.Argument(help="Movie, TIFF, OME-Zarr, image, or folder of images.")],
    query: Annotated[str | None, typer.Argument(help='What to follow, e.g. "the red circle".')] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for label stacks and the summary.")] = Path(
        "virst-out"
    ),
    more_queries: Annotated[list[str] | None, typer.Option("-q", "--query", help="One more query.")] = None,
    correct: Annotated[
        list[str] | None, typer.Option("--correct", help="FRAME=MASK: a mask you vouch for, or FRAME=absent.")
    ] = None,
    label: Annotated[int | None, typer.Option(help="Which value of the mask files is the object.")] = None,
    region: Annotated[str | None, typer.Option(help="y0,x0,y1,x1: look only here.")] = None,
    axes: Annotated[str | None, typer.Option(help="Axes of the file, e.g. TCYX, where they cannot be told.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel to look at.")] = None,
    z: Annotated[str | None, typer.Option(help="Z plane number, max or mean.")] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Follow a query, or a mask, through a video."""
    from napari_virst.cli import segment as work
    from napari_virst.cli.report import note, print_json
    from napari_virst.engine.cropping import Region
    from napari_virst.io.video import open_video

    work.check_output(out)
    texts = [text for text in [query, *(more_queries or [])] if text is not None]
    corrections = [work.CorrectionArgument.parse(text) for text in correct or []]
    area = Region.parse(region) if region is not None else None
    queries = work.plan_queries(texts, bool(corrections))
    plane = int(z) if z is not None and z.isdigit() else z
    with open_video(video, axes=axes, channel=channel, z=plane) as opened, opened.reader() as frames:  # type: ignore[arg-type]
        for remark in opened.notes:
            note(remark)
        anchors = work.read_anchors(corrections, opened.shape, label)
        summary = work.segment(frames, queries, anchors, wake(model, device), out, video_name=opened.name, region=area)
    if as_json:
        print_json({"out": str(out), **asdict(summary)})
    else:
        _print_summary(summary, out)
    if summary.interrupted:
        raise typer.Exit(130)


def _print_summary(summary: object, out: Path) -> None:
    from rich.table import Table

    from napari_virst.cli.report import STDOUT
    from napari_virst.cli.segment import Summary

    assert isinstance(summary, Summary)
    table = Table(title=f"{summary.video}: {summary.shape[0]} frames of {summary.shape[2]}×{summary.shape[1]}")
    for column in ("query", "found on", "frames", "presence", "frames/s", "labels"):
        table.add_column(column)
    for track in summary.tracks:
        found = "not in this video" if track.not_in_video else f"{track.num_frames_with_object} of {track.num_frames}"
        where = "" if track.first_frame is None else f"{track.first_frame}–{track.last_frame}"
        presence = "" if track.mean_presence is None else f"{track.mean_presence:.2f}"
        table.add_row(track.query, found, where, presence, f"{track.frames_per_s:.1f}", str(out / track.labels))
    STDOUT.print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("virst-demo"),
    query: Annotated[str | None, typer.Option("-q", "--query", help="Another question about the sample.")] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open a window even if there is a display.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Try it on a sample: in napari where there is a display, else into files."""
    from napari_virst.cli.demo import can_open_window, open_window, run_headless

    if not headless and can_open_window():
        open_window(query)
        return
    report = run_headless(out, wake("compact", device), query)
    if as_json:
        print_json(asdict(report))
    else:
        report.show()


@app.command()
def info(
    model: ModelOption = "compact",
    as_json: JsonOption = False,
) -> None:
    """Versions, devices, the model, and what fits."""
    from napari_virst.cli.info import collect, show

    facts = collect(model)
    if as_json:
        print_json(facts)
    else:
        show(facts)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, e.g. compact_cpu.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run; a run begun there goes on.")],
    export: Annotated[
        Path | None, typer.Option(help="Write the averaged weights as a model folder at the end.")
    ] = None,
    num_threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
) -> None:
    """Train on procedural scenes; stop with Ctrl+C and run again to go on."""
    from napari_virst.cli.train import run_training

    run_training(recipe, out, export, num_threads)
