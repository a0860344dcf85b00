"""``napari-virst evaluate rvos | scenes | clips``."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from napari_virst.cli.folders import check_folder
from napari_virst.cli.options import DeviceOption, JsonOption, ModelOption  # noqa: TC001 - typer reads annotations
from napari_virst.cli.report import STDOUT, note, print_json, print_table, progress_bar
from napari_virst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.evaluation.clips import ClipScore
    from napari_virst.evaluation.run import ExpressionScore, ResultFolder
    from napari_virst.io.datasets import Expression, ExpressionDataset

app = typer.Typer(
    name="evaluate", help="Measure a model on benchmarks, procedural scenes or annotated clips.", no_args_is_help=True
)

CLIP_COLUMNS = ("first mask given", "by language", "copying", "optical flow")


@app.command()
def rvos(
    folder: Annotated[Path, typer.Argument(help="The benchmark's folder, as published.")],
    dataset: Annotated[str, typer.Option("--dataset", help="mevis, ref-youtube-vos, ref-davis or revos.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for images and scores; a run begun there goes on.")
    ] = Path("virst-evaluation"),
    split: Annotated[str, typer.Option(help='Which part; of MeViS, "valid_u" has true masks.')] = "valid",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many expressions.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a model; GPUs in turn.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler of yours.")] = None,
    preset: Annotated[
        str | None, typer.Option(help='"default", or "reference" to run as the published code does; else as the model.')
    ] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Answer a benchmark's expressions: images to hand in, J and F where the truth is published."""
    from napari_virst.evaluation.run import ResultFolder, summarise, write_reports
    from napari_virst.io.datasets import open_dataset

    check_folder(out, "-o")
    opened = open_dataset(folder, dataset, split)
    chosen = opened.expressions[:limit]
    model = _resolved(model)
    results = ResultFolder(out, {"dataset": dataset, "split": split, "model": model, "preset": preset})
    pending = results.pending(chosen)
    note(f"{len(chosen)} expressions of {len({e.video for e in chosen})} videos; {len(pending)} to do.")
    _run_pending(opened, pending, results, partial(load_on, model, preset=preset), device, workers, scheduler)
    known = results.scores()
    scores = [known[e.video, e.expression_id] for e in chosen if (e.video, e.expression_id) in known]
    summary = summarise(opened, scores)
    write_reports(results, summary, scores)
    if as_json:
        print_json({"out": str(out), **summary})
    else:
        _print_benchmark(summary, out)


def _resolved(model: str) -> str:
    """Name a model folder in full, for workers elsewhere and for runs that go on from another place."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if model != "compact" and folder.exists() else model


def _run_pending(
    dataset: ExpressionDataset,
    pending: list[Expression],
    results: ResultFolder,
    load: Callable[[str], Segmenter],
    device: str,
    workers: int,
    scheduler: str | None,
) -> None:
    if not pending:
        return
    num_done = 0
    with progress_bar("following", sum(len(expression.frames) for expression in pending)) as update:
        answers = (
            _answers_here(dataset, pending, results, load, device)
            if workers == 1 and scheduler is None
            else _answers_spread(dataset, pending, results, load, device, workers, scheduler)
        )
        for score in answers:
            results.append(score)
            num_done += score.num_frames
            update(num_done)


def _answers_here(
    dataset: ExpressionDataset,
    pending: list[Expression],
    results: ResultFolder,
    load: Callable[[str], Segmenter],
    device: str,
) -> Iterator[ExpressionScore]:
    from napari_virst.evaluation.run import evaluate_expressions

    yield from evaluate_expressions(load(device), dataset, pending, results)


def _answers_spread(
    dataset: ExpressionDataset,
    pending: list[Expression],
    results: ResultFolder,
    load: Callable[[str], Segmenter],
    device: str,
    workers: int,
    scheduler: str | None,
) -> Iterator[ExpressionScore]:
    from napari_virst.evaluation.cluster import connect, evaluate_on_cluster

    with connect(workers, scheduler) as client:
        yield from evaluate_on_cluster(client, load, device, dataset, pending, results)


def load_on(model: str, device: str, preset: str | None = None) -> Segmenter:
    """Load a model on a device; what workers are sent."""
    from napari_virst.cli.main import wake

    return wake(model, device, preset)()


def _print_benchmark(summary: Mapping[str, Any], out: Path) -> None:
    rows = {"all": summary["overall"], **summary.get("groups", {})}
    with_r = ["r"] if "r" in summary["overall"] else []
    keys = ["j_and_f", "j", "f", *with_r]
    cells = {name: [*(_cell(row.get(key)) for key in keys), str(row["num_expressions"])] for name, row in rows.items()}
    heads = ("", "J&F", "J", "F", *(key.upper() for key in with_r), "expressions")
    _print_table(f"{summary['dataset']} {summary['split']}", heads, cells)
    if summary["overall"]["j"] is None:
        note("The true masks of this split are not published here; hand in the folders of Annotations.")
    STDOUT.print(f"Images and scores are in {out}.", markup=False)


@app.command()
def scenes(
    seed: Annotated[int, typer.Option(help="Which scenes; from 7000 on, which training never sees.")] = 7001,
    num: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 256,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of query; may be repeated.")] = None,
    num_frames: Annotated[int, typer.Option("--frames", min=2, help="Frames per scene.")] = 16,
    size: Annotated[int, typer.Option(min=32, help="Height and width, in pixels.")] = 128,
    plot: Annotated[Path | None, typer.Option(help="Write a bar chart of the kinds, e.g. scenes.png.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Write every scene there too, as a clip that napari opens.")] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Ask about procedural scenes, kind by kind, with things that are not there among them."""
    from napari_virst.cli.main import wake
    from napari_virst.training.evaluation import evaluation_scenes, score_scene, summarise
    from napari_virst.training.scene_files import write_scene

    _check_plot(plot)
    if keep is not None:
        check_folder(keep, "--keep")
    scenes = evaluation_scenes(seed, num, kinds=kind, num_frames=num_frames, size=size)
    segmenter = wake(model, device)()
    scores = []
    with progress_bar("following", num * num_frames) as update:
        for number, scene in enumerate(scenes):
            if keep is not None:
                write_scene(keep / f"{number:04d}_{scene[-1]}", *scene)
            scores.append(score_scene(segmenter, *scene))
            update(len(scores) * num_frames)
    summary = summarise(scores)
    if as_json:
        print_json(summary)
    else:
        _print_scenes(summary)
    if plot is not None:
        _plot_scenes(summary, plot)


def _print_scenes(summary: Mapping[str, Any]) -> None:
    rows = {**summary["kinds"], "all that are there": summary["overall"]}
    cells = {
        name: [_cell(row["j_and_f"]), _cell(row["j"]), _cell(row["f"]), str(row["num_scenes"])]
        for name, row in rows.items()
    }
    _print_table("scenes", ("kind", "J&F", "J", "F", "scenes"), cells)
    absent = summary["absent"]
    STDOUT.print(f"Not there, answered so:    {_cell(absent['answered_not_here']) or 'none'} of {absent['num_absent']}")
    STDOUT.print(f"There, answered not there: {_cell(absent['false_not_here'])} of {absent['num_present']}")


def _plot_scenes(summary: Mapping[str, Any], path: Path) -> None:
    from napari_virst.evaluation.chart import write_bars

    bars = {name: (_nan(row["j"]), _nan(row["f"])) for name, row in summary["kinds"].items()}
    write_bars(path, "Procedural scenes, by kind of query", ("J", "F"), bars)


@app.command()
def clips(
    folder: Annotated[Path, typer.Argument(help="A folder of annotated clips, or one clip.")],
    language: Annotated[bool, typer.Option(help="Also ask each expression, without a mask.")] = True,
    only: Annotated[list[str] | None, typer.Option(help="Only the clip of this name; may be repeated.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a bar chart of the clips, e.g. clips.png.")] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Follow annotated clips, beside copying the first mask and warping it by optical flow."""
    from napari_virst.cli.main import wake
    from napari_virst.evaluation.clips import find_clips, score_clip

    _check_plot(plot)
    found = [clip for clip in find_clips(folder) if clip.objects and (not only or clip.name in only)]
    if not found:
        names = f" of the name {' or '.join(only)}" if only else ""
        raise InputError(f'A clip must have masks to be scored; "{folder}" holds none{names} that has; choose another.')
    segmenter = wake(model, device)()
    scores = []
    for number, clip in enumerate(found, 1):
        note(f"{clip.name} ({number} of {len(found)})")
        scores.append(score_clip(segmenter, clip, with_language=language))
    if as_json:
        print_json(clips_summary(scores))
    else:
        _print_clips(scores)
    if plot is not None:
        _plot_clips(scores, plot)


def clips_summary(scores: list[ClipScore]) -> dict[str, Any]:
    """Return what ``evaluate clips --json`` prints: means over clips, and every clip; None where not measured."""
    clips = {score.name: _clip_entry(score) for score in scores}
    means = {name: _mean([clip[name] for clip in clips.values()]) for name in ("mean_j", "mean_j_language")}
    return {**means, "clips": clips}


def _clip_entry(score: ClipScore) -> dict[str, Any]:
    return {
        "num_frames": score.num_frames,
        "mean_j": _none(score.mean_j),
        "mean_j_copy": _none(score.mean_j_copy),
        "mean_j_flow": _none(score.mean_j_flow),
        "mean_j_language": _none(score.language.j),
        "mean_j_and_f_language": _none(score.language.j_and_f),
        "objects": {
            str(label): {
                "mean_j": _none(item.mean_j),
                "mean_j_copy": _none(item.mean_j_copy),
                "mean_j_flow": _none(item.mean_j_flow),
                "expressions": {
                    text: {"j": _none(said.j), "f": _none(said.f), "j_and_f": _none(said.j_and_f)}
                    for text, said in item.expressions.items()
                },
            }
            for label, item in score.objects.items()
        },
    }


def _bars(score: ClipScore) -> tuple[float, ...]:
    return score.mean_j, score.language.j_and_f, score.mean_j_copy, score.mean_j_flow


def _print_clips(scores: list[ClipScore]) -> None:
    rows = {score.name: _bars(score) for score in scores}
    columns = list(zip(*rows.values(), strict=True))
    rows["mean"] = tuple(_nan(_mean([_none(value) for value in column])) for column in columns)
    cells = {name: [_cell(_none(value)) for value in row] for name, row in rows.items()}
    heads = tuple(f"{name}, {'J&F' if name == 'by language' else 'J'}" for name in CLIP_COLUMNS)
    _print_table("clips", ("clip", *heads), cells)


def _plot_clips(scores: list[ClipScore], path: Path) -> None:
    from napari_virst.evaluation.chart import write_bars

    series = [f"{name} ({'J&F' if name == 'by language' else 'J'})" for name in CLIP_COLUMNS]
    write_bars(path, "Following annotated clips", series, {score.name: _bars(score) for score in scores})


def _check_plot(path: Path | None) -> None:
    from napari_virst.evaluation.chart import check_picture

    if path is not None:
        check_picture(path)


def _print_table(title: str, columns: tuple[str, ...], rows: Mapping[str, list[str]]) -> None:
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for name, cells in rows.items():
        table.add_row(escape(name), *cells)
    print_table(table)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
