"""The command line: ``napari-virst demo | segment | batch | export | explain | convert | evaluate | info | train``.

Exit status: 0 done; 2 the command was typed wrongly; 3 the video, a mask, a query or a project cannot be used; 4 the
model or the device cannot be used; 5 the model failed while running; 130 stopped with Ctrl+C, finished frames kept.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from napari_virst import __version__
from napari_virst.cli import evaluate
from napari_virst.cli.options import (  # noqa: TC001 - typer reads annotations as it runs
    AgainOption,
    AxesOption,
    BatchOutOption,
    BatchQueryOption,
    ChannelOption,
    CorrectOption,
    DeviceOption,
    DtypeOption,
    ExcludeAnchorOption,
    FormatOption,
    FramesOption,
    FramesSampledOption,
    InitialFusionOption,
    JsonOption,
    LabelledVideoOption,
    LabelOption,
    LearnOption,
    ModelOption,
    OffloadOption,
    OnlyOption,
    OutOption,
    OverwriteOption,
    PresetOption,
    QuantizeOption,
    QueryArgument,
    QueryOption,
    RegionOption,
    SourcesArgument,
    SplitOption,
    TrackOption,
    VideoArgument,
    VideosArgument,
    ZOption,
)
from napari_virst.cli.report import STDERR, as_options, note, print_json
from napari_virst.errors import CheckpointError, DeviceError, InputError, ProjectError, VirstError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.engine.predictor import Predictor
    from napari_virst.model.processing import FrameSample


class Commands(TyperGroup):
    """The commands; whichever Ctrl+C ends says so."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer has a context of its own, not public
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("Stopped.")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="napari-virst",
    cls=Commands,
    help="Describe what to follow in a video; get editable label masks; fix a few frames and the rest follows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate.app)


def exit_status(error: VirstError) -> int:
    """Return the exit status that an error stands for."""
    if isinstance(error, InputError | ProjectError):
        return 3
    return 4 if isinstance(error, CheckpointError | DeviceError) else 5


def run() -> None:
    """Run the command line; errors of ours become one sentence and an exit status."""
    try:
        app()
    except VirstError as error:
        STDERR.print("[bold red]Error:[/]", escape(as_options(str(error))), markup=True, soft_wrap=True)
        sys.exit(exit_status(error))


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"napari-virst {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    # What is odd about a file is said once, as a note; tifffile would say it again whenever it opens the file.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


def wake(
    model: str,
    device: str,
    preset: str | None = None,
    dtype: str = "auto",
    quantize: str | None = None,
    offload: bool = False,
    frame_sample: FrameSample | None = None,
    use_initial_fusion: bool | None = None,
) -> Callable[[], Predictor]:
    """Return a function that loads the model when it is first needed, once."""

    @cache
    def load() -> Predictor:
        """Import torch, and load the model; the cache makes it once."""
        from napari_virst.engine.predictor import PredictorOptions, load_segmenter

        options = PredictorOptions(
            preset=preset,  # type: ignore[arg-type]  # checked there
            frame_sample=frame_sample,
            use_initial_fusion=use_initial_fusion,
        )
        with STDERR.status("waking the model"):
            return load_segmenter(model, device, options, dtype=dtype, quantization=quantize, offload=offload)  # type: ignore[arg-type]

    return load


@app.command()
def segment(
    video: VideoArgument,
    query: QueryArgument = None,
    out: OutOption = Path("virst-out"),
    more_queries: QueryOption = None,
    correct: CorrectOption = None,
    label: LabelOption = None,
    region: RegionOption = None,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    preset: PresetOption = None,
    frames_sampled: FramesSampledOption = None,
    initial_fusion: InitialFusionOption = None,
    exclude_anchor: ExcludeAnchorOption = None,
    learn: LearnOption = False,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    offload: OffloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow a query, or a mask, through a video."""
    from napari_virst.cli.segment import run_segment
    from napari_virst.cli.segment_request import SegmentRequest, model_options
    from napari_virst.cli.segment_summary import show

    queries = tuple(text for text in [query, *(more_queries or [])] if text is not None)
    corrections, excluded = tuple(correct or ()), tuple(exclude_anchor or ())
    request = SegmentRequest(
        video, queries, out, corrections, label, region, axes, channel, z, frames_sampled, excluded, learn,
        model_options(preset, dtype, quantize, initial_fusion),
    )  # fmt: skip
    summary = run_segment(
        request, lambda sample: wake(model, device, preset, dtype, quantize, offload, sample, initial_fusion)
    )
    if as_json:
        print_json({"out": str(out), **asdict(summary)})
    else:
        show(summary, out)
    if summary.interrupted:
        raise typer.Exit(130)


@app.command()
def batch(
    videos: VideosArgument,
    query: BatchQueryOption,
    out: BatchOutOption = Path("virst-batch"),
    again: AgainOption = False,
    region: RegionOption = None,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    preset: PresetOption = None,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    offload: OffloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow the same queries through many videos; run it again to go on where it stopped."""
    from napari_virst.cli.batch import BatchRequest, run_batch, show
    from napari_virst.cli.segment_request import model_options

    summary = run_batch(
        BatchRequest(
            tuple(videos), tuple(query), out, region, axes, channel, z, again, model_options(preset, dtype, quantize)
        ),
        wake(model, device, preset, dtype, quantize, offload),
    )
    if as_json:
        print_json({"out": str(out), **summary.as_json()})
    else:
        show(summary, out)
    if summary.is_stopped:
        raise typer.Exit(130)
    if summary.first_error is not None:
        raise typer.Exit(exit_status(summary.first_error))


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
def export(
    sources: SourcesArgument,
    format_: FormatOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the data set; new or empty.")],
    only: OnlyOption = None,
    tracks: TrackOption = None,
    frames: FramesOption = False,
    videos: LabelledVideoOption = None,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    split: SplitOption = "train",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Hand labels on in a format that trainers read."""
    from napari_virst.cli.export import ExportRequest, run_export, show

    request = ExportRequest(
        tuple(sources), format_, out, only, tuple(tracks or ()), frames, tuple(videos or ()), axes, channel, z, split,
        overwrite,
    )  # fmt: skip
    report = run_export(request)
    if as_json:
        print_json({"out": str(out), **asdict(report)})
    else:
        show(report, out)


@app.command()
def explain(
    video: VideoArgument,
    question: Annotated[str, typer.Argument(help='A question, e.g. "What is the dog doing?".')],
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    offload: OffloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question about a video in words; needs the full model."""
    from napari_virst.io.video import open_video

    with open_video(video) as opened, opened.reader() as frames:
        answer = wake(model, device, None, dtype, quantize, offload)().explain(frames, question)
    if as_json:
        print_json({"video": opened.name, "question": question, "answer": answer})
    else:
        typer.echo(answer)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' file, e.g. virst.pt; no code in it is run.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; a conversion begun there goes on.")],
    base: Annotated[
        str | None, typer.Option(help="Folder or Hugging Face id of VideoChat-Flash, for what the checkpoint lacks.")
    ] = None,
    sam2: Annotated[str | None, typer.Option(help="File or Hugging Face id of SAM 2.1 large, likewise.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder, Hugging Face id or tokenizer.json; without it no text queries.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Sizes as JSON; those of the published model if left out.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32: of the weights that are written.")] = "bf16",
    without_initial_fusion: Annotated[
        bool, typer.Option("--without-initial-fusion", help="Accept files that lack the first fusion; write it off.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn the authors' checkpoint into a model folder."""
    from napari_virst.cli.convert import run_conversion, show

    report = run_conversion(
        checkpoint,
        out,
        base=base,
        sam2=sam2,
        tokenizer=tokenizer,
        config=config,
        dtype=dtype,
        without_initial_fusion=without_initial_fusion,
    )
    if as_json:
        print_json({"out": str(out), **asdict(report)})
    else:
        show(report, out)


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
    recipe: Annotated[str, typer.Argument(help="compact_cpu, finetune, full_lora or smoke.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder, if there is one.")
    ] = False,
    start_from: Annotated[
        str | None, typer.Option("--from", help='Model to go on from: "compact" or a folder.')
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of videos with masks; else procedural scenes.")] = None,
    dataset: Annotated[
        str, typer.Option(help="What --data holds: project, mevis, ref-youtube-vos, ref-davis or revos.")
    ] = "project",
    split: Annotated[str, typer.Option(help="Split of a benchmark.")] = "train",
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16 (mixed); auto: bf16 on a GPU.")] = "auto",
    export: Annotated[
        Path | None, typer.Option(help="Write the averaged weights as a model folder at the end.")
    ] = None,
    num_threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a model; stop with Ctrl+C and go on with --resume."""
    from napari_virst.cli.train import TrainingRequest, run_training

    run_training(
        TrainingRequest(recipe, out, resume, start_from, data, dataset, split, device, precision, export, num_threads)
    )
