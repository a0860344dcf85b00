"""``napari-virst batch``: the same queries through many videos, with a model that is loaded once."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from napari_virst.cli.folders import check_folder
from napari_virst.cli.report import STDOUT, as_options, note, print_table
from napari_virst.cli.segment import run_segment
from napari_virst.cli.segment_request import SegmentRequest, plan_queries
from napari_virst.cli.videos import find_videos, name_folders
from napari_virst.engine.runner import readable
from napari_virst.errors import CheckpointError, DeviceError, InputError
from napari_virst.io.project import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.errors import VirstError

TABLE_NAME = "batch.csv"
_COLUMNS = (
    *("video", "folder", "status", "query", "labels", "num_frames", "num_frames_done", "num_frames_with_object"),
    *("first_frame", "last_frame", "mean_presence", "not_in_video", "error"),
)


@dataclass(frozen=True)
class BatchRequest:
    """What was typed, but for the model."""

    videos: tuple[str, ...]
    """Files, folders and patterns."""
    queries: tuple[str, ...]
    out: Path
    region: str | None = None
    axes: str | None = None
    channel: int | None = None
    z: str | None = None
    again: bool = False
    """Whether videos whose results are there are done again."""


@dataclass(frozen=True)
class VideoOutcome:
    """What became of one video."""

    video: str
    """Its path, in full."""
    folder: str
    """Where its results are, under the folder of the batch."""
    status: Literal["done", "kept", "stopped", "failed"]
    """"kept": its results were there already."""
    error: str | None
    tracks: tuple[dict[str, Any], ...]
    """As in ``summary.json``."""

    def rows(self) -> list[dict[str, Any]]:
        """Lines of the table, one per query; one alone where there is none."""
        common = {"video": self.video, "folder": self.folder, "status": self.status, "error": self.error}
        tracks: tuple[dict[str, Any], ...] = self.tracks or ({},)
        return [{key: {**track, **common}.get(key) for key in _COLUMNS} for track in tracks]


@dataclass(frozen=True)
class BatchSummary:
    """What became of all."""

    outcomes: tuple[VideoOutcome, ...]
    num_videos: int
    """With those that were not begun."""
    first_error: VirstError | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether Ctrl+C ended it."""
        return any(outcome.status == "stopped" for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a script."""
        return {"num_videos": self.num_videos, "videos": [asdict(outcome) for outcome in self.outcomes]}


def run_batch(request: BatchRequest, load: Callable[[], Segmenter]) -> BatchSummary:
    """Follow every query through every video; what fails is noted, and the next video's turn comes.

    ``batch.csv`` is brought up to date after each video. A video is left as it is where its folder holds finished
    results of the same queries with the same options by the same model, younger than the video.

    Parameters
    ----------
    request
        What was typed.
    load
        Loads the model, once, however often it is called.

    Raises
    ------
    InputError
        When something typed cannot be used; before any video is opened.
    CheckpointError, DeviceError
        When the model cannot be used, which no other video would change.
    """
    check_folder(request.out, "-o")
    plan_queries(request.queries, [])
    videos = find_videos(request.videos)
    earlier = read_table(request.out, but_for=videos)
    outcomes: list[VideoOutcome] = []
    first_error: VirstError | None = None
    for number, (video, folder) in enumerate(name_folders(videos).items(), 1):
        note(f"{number} of {len(videos)}: {video}")
        outcome, error = _segment_one(request, str(video), folder, load)
        first_error = first_error or error
        outcomes.append(outcome)
        write_table(request.out, earlier, outcomes)
        if outcome.status == "stopped":
            break
    return BatchSummary(tuple(outcomes), len(videos), first_error)


def _segment_one(
    request: BatchRequest, video: str, name: str, load: Callable[[], Segmenter]
) -> tuple[VideoOutcome, VirstError | None]:
    folder = request.out / name
    one = SegmentRequest(
        video, request.queries, folder, region=request.region, axes=request.axes, channel=request.channel, z=request.z
    )
    held = None if request.again else _held(one, load)
    if held is not None:
        note(f"Results of the same queries are in {folder} already; --again does them again.")
        return VideoOutcome(video, name, "kept", None, held), None
    try:
        summary = run_segment(one, lambda _sample: load)
    except (CheckpointError, DeviceError):
        raise
    except Exception as problem:  # noqa: BLE001 - noted in the table, and the next video has its turn
        error = readable(problem)
        text = as_options(str(error))
        note(f"Failed: {text}")
        return VideoOutcome(video, name, "failed", text, ()), error
    tracks = tuple(asdict(track) for track in summary.tracks)
    return VideoOutcome(video, name, "stopped" if summary.interrupted else "done", None, tracks), None


def _held(request: SegmentRequest, load: Callable[[], Segmenter]) -> tuple[dict[str, Any], ...] | None:
    """Return the tracks of finished results that are in the folder of a request; None where it has to be done."""
    path = request.out / "summary.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tracks = tuple(content["tracks"])
        is_same = (content["source"], content["options"]) == (request.source, request.typed)
        is_whole = not content["interrupted"] and all(t["num_frames_done"] == t["num_frames"] for t in tracks)
        is_there = all((request.out / track["labels"]).is_file() for track in tracks)
        is_younger = path.stat().st_mtime >= Path(request.source).stat().st_mtime
        is_asked = tuple(track["query"] for track in tracks) == request.queries
        model = content["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_held = is_same and is_whole and is_there and is_younger and is_asked
    return tracks if is_held and model == load().name else None


def read_table(out: Path, but_for: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the lines of ``batch.csv`` that tell of other videos; none where there is no such table."""
    try:
        with (out / TABLE_NAME).open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
    begun = {str(video) for video in but_for}
    return [{key: line.get(key) for key in _COLUMNS} for line in lines if line.get("video") not in begun]


def write_table(out: Path, earlier: Sequence[dict[str, Any]], outcomes: Sequence[VideoOutcome]) -> None:
    """Write ``batch.csv``: a line for every video and query, after those of earlier calls.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    text = StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS)
    table.writeheader()
    table.writerows([*earlier, *(row for outcome in outcomes for row in outcome.rows())])
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / TABLE_NAME, text.getvalue().encode())
    except OSError as error:
        raise InputError(f"-o must have room for {TABLE_NAME}; got {error.strerror} for {out}; make room.") from error


def show(summary: BatchSummary, out: Path) -> None:
    """Print what became of every video."""
    table = Table(title=f"{len(summary.outcomes)} of {summary.num_videos} videos")
    for column in ("video", "status", "query", "found on", "presence"):
        table.add_column(column, overflow="fold")
    for outcome in summary.outcomes:
        for row in outcome.rows():
            seen = f"{row['num_frames_with_object']} of {row['num_frames']}"
            found = row["error"] or ("not in this video" if row["not_in_video"] else seen)
            presence = "" if row["mean_presence"] is None else f"{row['mean_presence']:.2f}"
            table.add_row(Path(outcome.video).name, outcome.status, row["query"] or "", found, presence)
    print_table(table)
    STDOUT.print(f"A folder for each video, and {TABLE_NAME}, are in {out}", markup=False)
