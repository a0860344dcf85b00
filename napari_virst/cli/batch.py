"""``napari-virst batch``: the same queries through many videos, with a model that is loaded once."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from napari_virst.cli.folders import check_folder
from napari_virst.cli.report import STDOUT, as_options, note, print_table
from napari_virst.cli.segment import run_segment
from napari_virst.cli.segment_request import SegmentRequest, plan_queries
from napari_virst.cli.videos import changed_s, find_videos, name_folders
from napari_virst.engine.cropping import Region
from napari_virst.engine.runner import readable
from napari_virst.errors import CheckpointError, DeviceError, InputError
from napari_virst.io.project import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.errors import VirstError

TABLE_NAME = "batch.csv"
_COLUMNS = (
    *("video", "folder", "status", "query", "labels", "num_frames", "num_frames_done", "num_frames_with_object"),
    *("first_frame", "last_frame", "mean_presence", "not_in_video", "unknown_words", "error", "notes"),
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
    model_options: Mapping[str, str] = field(default_factory=dict)
    """As in :attr:`SegmentRequest.model_options`."""

    def of(self, video: Path, folder: str) -> SegmentRequest:
        """Return what stands for one video, its results in a folder of that name."""
        return SegmentRequest(
            str(video),
            self.queries,
            self.out / folder,
            region=self.region,
            axes=self.axes,
            channel=self.channel,
            z=self.z,
            model_options=self.model_options,
        )


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
    notes: tuple[str, ...] = ()
    """As in ``summary.json``."""

    def rows(self) -> list[dict[str, Any]]:
        """Lines of the table, one per query; one alone where there is none."""
        common = {"video": self.video, "folder": self.folder, "status": self.status, "error": self.error}
        common["notes"] = " ".join(self.notes) or None
        tracks: tuple[dict[str, Any], ...] = self.tracks or ({},)
        lines = ({**track, **common, "unknown_words": " ".join(track.get("unknown_words", ()))} for track in tracks)
        return [{key: line.get(key) for key in _COLUMNS} for line in lines]


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

    ``batch.csv`` is brought up to date after each video, and a video keeps the folder that it names. A video is left as
    it is where its folder holds finished results of the same queries with the same options by the same model, younger
    than the video.

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
    if request.region is not None:
        Region.parse(request.region)
    videos = find_videos(request.videos)
    earlier = read_table(request.out)
    outcomes: list[VideoOutcome] = []
    first_error: VirstError | None = None
    for number, (video, folder) in enumerate(name_folders(videos, _held_folders(earlier)).items(), 1):
        note(f"{number} of {len(videos)}: {video}")
        try:
            outcome, error = _segment_one(request.of(video, folder), folder, request.again, load)
        except KeyboardInterrupt:  # while nothing was followed; else it is asked to stop
            outcome, error = VideoOutcome(str(video), folder, "stopped", None, ()), None
        first_error = first_error or error
        outcomes.append(outcome)
        write_table(request.out, earlier, outcomes)
        if outcome.status == "stopped":
            note(f"Stopped; the same command{' without --again' if request.again else ''} goes on.")
            break
    return BatchSummary(tuple(outcomes), len(videos), first_error)


def _segment_one(
    request: SegmentRequest, folder: str, again: bool, load: Callable[[], Segmenter]
) -> tuple[VideoOutcome, VirstError | None]:
    there = _read_summary(request.out)
    if not again and _is_answered(request, there) and there["model"] == load().name:
        note(f"Results of the same queries are in {request.out} already; --again does them again.")
        tracks, notes = tuple(there["tracks"]), tuple(there.get("notes", ()))
        return VideoOutcome(request.video, folder, "kept", None, tracks, notes), None
    try:
        summary = run_segment(request, lambda _sample: load)
    except (CheckpointError, DeviceError):
        raise
    except Exception as problem:  # noqa: BLE001 - noted in the table, and the next video has its turn
        error = readable(problem)
        text = as_options(str(error))
        note(f"Failed: {text}")
        return VideoOutcome(request.video, folder, "failed", text, ()), error
    _note_replaced(there, request)
    status: Literal["stopped", "done"] = "stopped" if summary.interrupted else "done"
    tracks = tuple(asdict(track) for track in summary.tracks)
    return VideoOutcome(request.video, folder, status, None, tracks, summary.notes), None


def _read_summary(folder: Path) -> dict[str, Any]:
    """Return ``summary.json`` of a folder; nothing where there is none."""
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_answered(request: SegmentRequest, there: dict[str, Any]) -> bool:
    """Whether what is there is all that a request asks for; but for the model."""
    try:
        tracks = there["tracks"]
        is_same = (there["source"], there["options"]) == (request.source, request.typed) and bool(there["model"])
        is_whole = not there["interrupted"] and all(t["num_frames_done"] == t["num_frames"] for t in tracks)
        is_there = all((request.out / track["labels"]).is_file() for track in tracks)
        is_younger = (request.out / "summary.json").stat().st_mtime >= changed_s(Path(request.source))
        is_asked = [track["query"] for track in tracks] == [query.name for query in plan_queries(request.queries, [])]
    except (OSError, KeyError, TypeError):
        return False
    return is_same and is_whole and is_there and is_younger and is_asked


def _note_replaced(there: dict[str, Any], request: SegmentRequest) -> None:
    """Say which queries a folder told of before, whose labels nothing tells of any more."""
    asked = {query.name for query in plan_queries(request.queries, [])}
    try:
        before = [str(track["query"]) for track in there["tracks"]]
    except (KeyError, TypeError):  # not written by us
        return
    if gone := [query for query in before if query not in asked]:
        listed = ", ".join(f"“{query}”" for query in gone)
        note(f"{request.out} tells no more of {listed}: ask for all queries at once, or take another -o for others.")


def read_table(out: Path) -> list[dict[str, Any]]:
    """Read the lines of ``batch.csv``; none where there is no such table."""
    try:
        with (out / TABLE_NAME).open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
    return [{key: line.get(key) for key in _COLUMNS} for line in lines]


def _held_folders(lines: Iterable[dict[str, Any]]) -> dict[Path, str]:
    """Return the folders of the videos that a table tells of; of two with one folder, the first has it."""
    folders: dict[str, Path] = {}
    for line in lines:
        if line["video"] and line["folder"] and Path(line["folder"]).name == line["folder"]:
            folders.setdefault(line["folder"], Path(line["video"]))
    return {video: folder for folder, video in folders.items()}


def write_table(out: Path, earlier: Sequence[dict[str, Any]], outcomes: Sequence[VideoOutcome]) -> None:
    """Write ``batch.csv``: a line for every video and query, after those of earlier calls about other videos.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    told = {outcome.video for outcome in outcomes}
    text = StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS)
    table.writeheader()
    table.writerows(line for line in earlier if line["video"] not in told)
    table.writerows(row for outcome in outcomes for row in outcome.rows())
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / TABLE_NAME, text.getvalue().encode())
    except OSError as error:
        raise InputError(f"-o must have room for {TABLE_NAME}; got {error.strerror} for {out}; make room.") from error


def show(summary: BatchSummary, out: Path) -> None:
    """Print what became of every video."""
    table = Table(title=f"{len(summary.outcomes)} of {summary.num_videos} videos")
    for column in ("folder", "status", "query", "found on", "presence"):
        table.add_column(column, overflow="fold")
    for outcome in summary.outcomes:
        for row in outcome.rows():
            seen = f"{row['num_frames_with_object']} of {row['num_frames']}"
            found = row["error"] or ("not in this video" if row["not_in_video"] else seen if row["query"] else "")
            presence = "" if row["mean_presence"] is None else f"{row['mean_presence']:.2f}"
            table.add_row(outcome.folder, outcome.status, row["query"] or "", found, presence)
    print_table(table)
    STDOUT.print(f"A folder for each video, and {TABLE_NAME}, are in {out}", markup=False)
