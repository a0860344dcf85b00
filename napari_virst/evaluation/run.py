"""Runs a segmenter over a benchmark: images to hand in, scores where the truth is published, and going on later.

A folder of results holds ``run.json`` (what was run), ``Annotations/<video>/<expression>/<frame>.png`` (0 or 255, the
form that the servers of MeViS and Ref-YouTube-VOS take), ``scores.jsonl`` (one line per finished expression),
``scores.csv`` and ``summary.json``.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_virst.errors import InputError, SegmentationError
from napari_virst.evaluation.metrics import MeanScore, robustness, score_frames
from napari_virst.io.datasets import Benchmark
from napari_virst.io.masks import read_mask
from napari_virst.records import Job, Query, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.io.datasets import Expression, ExpressionDataset


@dataclass(frozen=True)
class ExpressionScore:
    """How one expression went."""

    video: str
    expression_id: str
    text: str
    group: str
    num_frames: int
    num_scored: int
    """How many of the frames have a published truth."""
    j: float | None
    """Mean region similarity over them; None where there are none."""
    f: float | None
    """Mean contour accuracy over them."""
    is_empty: bool
    """Whether the answer was "not here" on every frame."""
    elapsed_s: float
    r: float | None = None
    """Mean robustness over them; of ReVOS alone."""


class ResultFolder:
    """The folder of results of one run.

    Parameters
    ----------
    path
        Where; made if it is not there.
    settings
        What is run. A folder that holds results of other settings is refused, so that no two models mix in one score.

    Raises
    ------
    InputError
        When the folder belongs to another run.
    """

    def __init__(self, path: Path, settings: dict[str, str | None]) -> None:
        # Workers have working folders of their own.
        self.path = path = path.expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
        file = path / "run.json"
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            differing = sorted(key for key in settings if before.get(key) != settings[key])
            if differing:
                said = ", ".join(f"{key} {before.get(key)!r} instead of {settings[key]!r}" for key in differing)
                raise InputError(f'"{path}" must hold results of this run; it was made with {said}; give another -o.')
        else:
            file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def image(self, expression: Expression, frame: int) -> Path:
        """Path of the answer to one frame."""
        folder = self.path / "Annotations" / expression.video / expression.expression_id
        return folder / f"{expression.frames[frame]}.png"

    def append(self, score: ExpressionScore) -> None:
        """Note a finished expression; on disk when this returns."""
        file = self.path / "scores.jsonl"
        with file.open("a+b") as lines:
            lines.seek(max(0, lines.seek(0, os.SEEK_END) - 1))
            is_torn = lines.read() not in (b"", b"\n")
            text = json.dumps(asdict(score), allow_nan=False) + "\n"
            lines.write(("\n" + text if is_torn else text).encode())
            lines.flush()
            os.fsync(lines.fileno())

    def scores(self) -> dict[tuple[str, str], ExpressionScore]:
        """Scores so far by (video, expression); a line that was cut off in a crash is left out."""
        file = self.path / "scores.jsonl"
        names = {field.name for field in fields(ExpressionScore)}
        found: dict[tuple[str, str], ExpressionScore] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            # Lines of before R was measured lack it.
            if isinstance(entry, dict) and names - {"r"} <= set(entry) <= names:
                found[entry["video"], entry["expression_id"]] = ExpressionScore(**entry)
        return found

    def pending(self, expressions: Iterable[Expression]) -> list[Expression]:
        """Return the expressions that have no score yet or lack an image."""
        known = self.scores()
        return [
            e
            for e in expressions
            if (e.video, e.expression_id) not in known
            or not all(self.image(e, frame).is_file() for frame in range(len(e.frames)))
        ]


def evaluate_expressions(
    segmenter: Segmenter, dataset: ExpressionDataset, expressions: Iterable[Expression], results: ResultFolder
) -> Iterator[ExpressionScore]:
    """Answer expressions one after another; write their images and yield their scores.

    Raises
    ------
    InputError
        When a frame or a true mask cannot be read.
    SegmentationError
        When the model fails.
    """
    for expression in expressions:
        start_s = time.monotonic()
        is_empty = _answer(segmenter, dataset, expression, results)
        score = _score(dataset, expression, results)
        yield ExpressionScore(
            expression.video,
            expression.expression_id,
            expression.text,
            expression.group,
            len(expression.frames),
            score.num_frames,
            _number(score.j),
            _number(score.f),
            is_empty,
            round(time.monotonic() - start_s, 3),
            _robustness(dataset, expression, results),
        )


def _answer(segmenter: Segmenter, dataset: ExpressionDataset, expression: Expression, results: ResultFolder) -> bool:
    """Write one image per frame; return whether nothing was found."""
    frames = dataset.open_frames(expression)
    num_frames = frames.shape[0]
    has_object: dict[int, bool] = {}
    results.image(expression, 0).parent.mkdir(parents=True, exist_ok=True)
    for result in segmenter.run(frames, Job(Query(expression.text), Span(0, num_frames)), lambda: False):
        write_answer(results.image(expression, result.frame), result.mask)
        has_object[result.frame] = bool(result.mask.any())
    missing = sorted(set(range(num_frames)) - set(has_object))
    if missing:
        raise SegmentationError(
            f"The model must answer every frame; it left out frame {missing[0]} of {expression.video} for "
            f'"{expression.text}"; run again.'
        )
    return not any(has_object.values())


def _score(dataset: ExpressionDataset, expression: Expression, results: ResultFolder) -> MeanScore:
    """Score what was written, so that the numbers are of the images to hand in."""

    def pairs() -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Yield what was written and what is true, (H, W) bool each, of every frame whose truth is known."""
        with Image.open(results.image(expression, 0)) as first:
            shape = first.height, first.width
        for frame in range(len(expression.frames)):
            truth = dataset.truth(expression, frame, shape)
            if truth is not None:
                yield read_mask(results.image(expression, frame), shape), truth

    return score_frames(pairs())


def _robustness(dataset: ExpressionDataset, expression: Expression, results: ResultFolder) -> float | None:
    """Mean R over the frames; None where the benchmark has none."""
    with Image.open(results.image(expression, 0)) as first:
        shape = first.height, first.width
    found = []
    for frame in range(len(expression.frames)):
        truth, foreground = (of(expression, frame, shape) for of in (dataset.truth, dataset.foreground))
        if truth is None or foreground is None:
            return None
        found.append(robustness(read_mask(results.image(expression, frame), shape), truth, foreground))
    return float(np.mean(found))


def write_answer(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask (H, W) bool as a gray PNG of 0 and 255; the file appears only when it is whole."""
    temporary = path.with_name(f".{path.name}.part")
    Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
    os.replace(temporary, path)


def summarise(dataset: ExpressionDataset, scores: Iterable[ExpressionScore]) -> dict[str, Any]:
    """Average scores the way the benchmark does.

    J and F are means over frames, then over expressions. Ref-DAVIS: then over its four sets of expressions. ReVOS:
    then over referring and reasoning, R too; of hallucinations (nothing is referred to) R and the share of empty
    answers are told. (The authors' script prints R of referring and reasoning; that of hallucinations stands in its
    table of expressions alone.)

    Returns
    -------
    dict
        "overall" and, where there are groups, "groups" by name: "j", "f", "j_and_f" (None without published truth),
        "num_expressions", "num_scored", "empty_answers" (share of expressions answered "not here"); of ReVOS "r" too.
    """
    everything = list(scores)
    names = sorted({score.group for score in everything} - {""})
    groups = {name: _average([score for score in everything if score.group == name]) for name in names}
    overall = _average(everything)
    counted = [groups[name] for name in names if name != "hallucination" and groups[name]["j"] is not None]
    if counted and dataset.benchmark in (Benchmark.REF_DAVIS, Benchmark.REVOS):
        keys = [key for key in ("j", "f", "j_and_f", "r") if all(group.get(key) is not None for group in counted)]
        overall |= {key: float(np.mean([group[key] for group in counted])) for key in keys}
    summary: dict[str, Any] = {"dataset": str(dataset.benchmark), "split": dataset.split, "overall": overall}
    return summary | ({"groups": groups} if groups else {})


def _average(scores: list[ExpressionScore]) -> dict[str, Any]:
    scored = [(score.j, score.f) for score in scores if score.j is not None and score.f is not None]
    j, f = (float(value) for value in np.mean(scored, axis=0)) if scored else (None, None)
    r = [score.r for score in scores if score.r is not None]
    return {
        "j": j,
        "f": f,
        "j_and_f": None if j is None or f is None else (j + f) / 2,
        "num_expressions": len(scores),
        "num_scored": len(scored),
        "empty_answers": float(np.mean([score.is_empty for score in scores])) if scores else None,
    } | ({"r": float(np.mean(r))} if r else {})


def write_reports(results: ResultFolder, summary: dict[str, Any], scores: Iterable[ExpressionScore]) -> None:
    """Write ``summary.json`` and ``scores.csv``, the same for the same scores."""
    (results.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with (results.path / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(ExpressionScore)])
        table.writeheader()
        table.writerows(asdict(score) for score in scores)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
