"""``napari-virst export``: labels in, a data set out."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from napari_virst.cli.folders import check_folder
from napari_virst.cli.report import STDERR, STDOUT, as_options, note, print_table, progress_bar
from napari_virst.cli.segment_request import as_plane
from napari_virst.errors import InputError
from napari_virst.io.exporting import ExportReport, export_labels, open_labelled
from napari_virst.io.video import open_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_virst.io.labelled import LabelledVideo
    from napari_virst.io.video import Video

REVIEWED = "reviewed"
_NUM_OPEN_FILES = 8192
"""Below the 10240 that macOS allows where it says "without limit"."""


@dataclass(frozen=True)
class ExportRequest:
    """What was typed."""

    sources: tuple[Path, ...]
    format: str
    out: Path
    only: str | None = None
    tracks: tuple[str, ...] = ()
    """Names of queries; all where empty."""
    with_frames: bool = False
    videos: tuple[str, ...] = ()
    """One per source; where labels say themselves, none."""
    axes: str | None = None
    channel: int | None = None
    z: str | None = None
    split: str = "train"
    overwrite: bool = False


def run_export(request: ExportRequest) -> ExportReport:
    """Check what was typed, open labels and videos, and write the data set with a progress bar.

    Raises
    ------
    InputError
        Or a child of it, when something typed cannot be used.
    ProjectError
        When a project is damaged.
    """
    check_folder(request.out, "-o")
    if request.only not in (None, REVIEWED):
        raise InputError(f'--only must be {REVIEWED}; got "{request.only}"; leave it out to export all frames.')
    if request.videos and len(request.videos) != len(request.sources):
        raise InputError(
            f"--video must be given once per source; got {len(request.videos)} for {len(request.sources)} sources."
        )
    _allow_open_files()
    with ExitStack() as stack:
        labelled = _open_once(request, stack)
        chosen = _choose_tracks(labelled, request.tracks)
        images = _open_videos(chosen, request, stack)
        with _progress(f"exporting {request.format}") as update:
            report = export_labels(
                chosen,
                request.out,
                request.format,
                only_reviewed=request.only == REVIEWED,
                images=images,
                split=request.split,
                overwrite=request.overwrite,
                on_frame=update,
            )
    report = replace(report, notes=tuple(as_options(text) for text in report.notes))
    for text in report.notes:
        note(text)
    return report


def _allow_open_files() -> None:
    """Have as many files open as the system lets us: labels and videos stay open, and 256 or 1024 are soon used up."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NUM_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _NUM_OPEN_FILES)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open_once(request: ExportRequest, stack: ExitStack) -> list[LabelledVideo]:
    """Open the sources, each once however often it was typed, and tell them where their videos are."""
    opened: dict[Path, LabelledVideo] = {}
    for number, source in enumerate(request.sources):
        path = source.expanduser().resolve()
        if path in opened:
            note(f"{source} is given more than once and exported once.")
            continue
        labels = stack.enter_context(open_labelled(path))
        if request.videos:
            labels = replace(labels, video_path=Path(request.videos[number]).expanduser())
        opened[path] = labels
    return list(opened.values())


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Say that labels are read, then show a bar; the yielded function takes the number done, and of how many."""
    with ExitStack() as stack:
        waiting = stack.enter_context(ExitStack())
        waiting.enter_context(STDERR.status("reading labels"))
        bars: list[Callable[[int], None]] = []

        def update(num_done: int, num_frames: int) -> None:
            """Show how far it is; the first call knows how far it goes."""
            if not bars:
                waiting.close()
                bars.append(stack.enter_context(progress_bar(title, num_frames)))
            bars[0](num_done)

        yield update


def _choose_tracks(labelled: list[LabelledVideo], names: tuple[str, ...]) -> list[LabelledVideo]:
    """Leave out what was not asked for, videos without any of it included."""
    if not names:
        return labelled
    for name in names:
        if not any(video.only([name]).tracks for video in labelled):
            known = dict.fromkeys(track.query.name for video in labelled for track in video.tracks)
            listed = ", ".join(f'"{each}"' for each in known)
            raise InputError(f'--track must be one of {listed}; got "{name}"; choose one.')
    narrowed = [video.only(names) for video in labelled]
    for video in narrowed:
        if not video.tracks:
            note(f"{video.path} is left out: it has none of these queries.")
    return [video for video in narrowed if video.tracks]


def _open_videos(labelled: list[LabelledVideo], request: ExportRequest, stack: ExitStack) -> list[Video] | None:
    if not request.with_frames and not request.videos:
        return None
    opened = []
    for one in labelled:
        if one.video_path is None:
            raise InputError(
                f'--frames must know where the video is; "{one.path}" does not say; give it with --video, or leave '
                "frames out."
            )
        typed = {"axes": request.axes, "channel": request.channel, "z": as_plane(request.z)}
        view = {**one.view, **{name: value for name, value in typed.items() if value is not None}}
        if isinstance(view.get("z"), str):
            view["z"] = as_plane(view["z"])
        video = open_video(one.video_path, **view)
        opened.append(stack.enter_context(video))
    return opened


def show(report: ExportReport, out: Path) -> None:
    """Say what was written."""
    counts = {"videos": report.num_videos, "frames": report.num_frames, "objects": report.num_objects}
    table = Table(title=f"{report.format}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
    table.add_column("queries", overflow="fold")
    for query in report.queries:
        table.add_row(query)
    print_table(table)
    STDOUT.print(f"The data set is in {out}", markup=False)
