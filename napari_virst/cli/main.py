"""The command line: ``napari-virst demo | segment | explain | convert | evaluate | info | train``.

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
from rich.markup import escape

from napari_virst.cli import evaluate
from napari_virst.cli.report import STDERR, print_json
from napari_virst.errors import CheckpointError, DeviceError, InputError, VirstError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_virst.engine.predictor import Predictor
    from napari_virst.model.processing import FrameSample

app = typer.Typer(
    name="napari-virst",
    help="Describe what to follow in a video; get editable label masks; fix a few frames and the rest follows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate.app)

ModelOption = Annotated[str, typer.Option("--model", help='"compact" (bundled) or a model folder.')]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", help='"default", or "reference" to run as the published code does; else as the model says.'
    ),
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="bf16, fp16 or fp32; auto: as stored on a GPU, else fp32.")]
QuantizeOption = Annotated[
    str | None, typer.Option("--quantize", help="8bit or 4bit language model, where the whole does not fit on the GPU.")
]
OffloadOption = Annotated[
    bool, typer.Option("--offload", help="Keep in main memory what does not fit on the GPU; slower.")
]
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
        STDERR.print("[bold red]Error:[/]", escape(str(error)), markup=True, soft_wrap=True)
        sys.exit(exit_status(error))
    except KeyboardInterrupt:
        STDERR.print("Stopped.")
        sys.exit(130)


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
    video: Annotated[str, typer.Argument(help="Movie, TIFF, OME-Zarr, image, or folder of images.")],
    query: Annotated[str | None, typer.Argument(help='What to follow, e.g. "the red circle".')] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for label stacks and the summary.")] = Path(
        "virst-out"
    ),
    more_queries: Annotated[
        list[str] | None, typer.Option("-q", "--query", help="One more query; all run as one batch.")
    ] = None,
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
    preset: PresetOption = None,
    frames_sampled: Annotated[
        str | None,
        typer.Option(
            "--frames-sampled",
            help="The very frames to ask about, e.g. 0,4,8,12, or all/of them for ST-Fusion, or a JSON file of both.",
        ),
    ] = None,
    initial_fusion: Annotated[
        bool | None, typer.Option("--initial-fusion/--no-initial-fusion", help="The first fusion; else as preset.")
    ] = None,
    exclude_anchor: Annotated[
        list[int] | None, typer.Option("--exclude-anchor", help="Frame whose mask by language is not to be trusted.")
    ] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Learn from two or more corrections first; dropped if it does not help.")
    ] = False,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    offload: OffloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow a query, or a mask, through a video."""
    from napari_virst.cli import segment as work
    from napari_virst.cli.report import note, print_json
    from napari_virst.cli.sampling import read_frame_sample
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
        sample = read_frame_sample(frames_sampled, opened.num_frames) if frames_sampled is not None else None
        excluded = work.check_excluded(exclude_anchor or [], opened.num_frames)
        segmenter = wake(model, device, preset, dtype, quantize, offload, sample, initial_fusion)
        summary = work.segment(
            frames,
            queries,
            anchors,
            segmenter,
            out,
            video_name=opened.name,
            region=area,
            excluded_anchors=excluded,
            learn=learn,
        )
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
def explain(
    video: Annotated[str, typer.Argument(help="Movie, TIFF, OME-Zarr, image, or folder of images.")],
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
    num_threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
) -> None:
    """Train a model; stop with Ctrl+C and go on with --resume."""
    from napari_virst.cli.train import TrainingRequest, run_training

    run_training(
        TrainingRequest(recipe, out, resume, start_from, data, dataset, split, device, precision, export, num_threads)
    )
