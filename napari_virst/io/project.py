"""A session on disk: a folder that any scientific tool can read while the session runs, and that survives a crash.

::

    project.json            format version, the video it belongs to, one entry per track; replaced atomically
    session.lock            held by the session that has the project open
ledger.jsonl            one line per thing done: who did what to which frames, and when; only ever appended
    masks/<track>.tif       (T, H, W) uint16 labels, 0 = background; plain BigTIFF, sparse on disk
    masks/<track>.npy       (T,) records of the frames: provenance, presence, predicted IoU …
    masks/<track>_predictions/000312.tif   (H, W) uint8 or uint16: what the model had said before a person changed it

The files under masks/ are the matter of :mod:`napari_virst.io.mask_files`. They are memory-mapped: a stroke is in the
hands of the operating system when the write returns, and nothing of it waits for project.json.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_virst.errors import ProjectError
from napari_virst.records import LedgerEntry, Query, Span

if TYPE_CHECKING:
    from collections.abc import Iterator


FORMAT_VERSION = 1


@dataclass(frozen=True)
class VideoRecord:
    """Which video a project belongs to."""

    name: str
    shape: tuple[int, int, int]
    """(T, H, W)."""
    fingerprint: str
    """Of the frames as the model saw them; see :class:`napari_virst.engine.protocol.Frames`."""
    source: str | None = None
    """Where it was opened from; None for arrays."""
    pixels: str | None = None
    """Of the pixels alone, see :class:`napari_virst.engine.protocol.StoredFrames`; None where they are not known."""


@dataclass(frozen=True)
class RunRecord:
    """What the last run of a track was asked to compute, and from what."""

    spans: tuple[Span, ...] = ()
    anchors: dict[int, int] = field(default_factory=dict)
    """CRC-32 of the mask of every user anchor, by frame."""
    excluded: tuple[int, ...] = ()
    pinned: tuple[int, ...] = ()
    thorough: bool = False
    """Whether every frame had to be computed, because an anchor had gone: what is held may stem from it."""
    learned: bool = False
    """Whether what is held comes from runs with something learned from the corrections."""


@dataclass(frozen=True)
class TrackRecord:
    """One track of a project, without its pixels."""

    track_id: str
    query: Query
    label: int = 1
    revision: int = 0
    window: Span | None = None
    """The part of the video that was asked for; None = all of it."""
    model_anchors: tuple[int, ...] = ()
    excluded_anchors: tuple[int, ...] = ()
    pinned_anchors: tuple[int, ...] = ()
    demoted_anchors: tuple[int, ...] = ()
    locked: tuple[Span, ...] = ()
    """Frames that no run changes although no person vouches for them."""
    lineage: dict[int, int] | None = None
    """Label of an instance to the label of its parent, 0 = none; None where the track is not split."""
    learns: bool = False
    """Whether the corrections of this track are learned from."""
    run: RunRecord = RunRecord()


@dataclass(frozen=True)
class ProjectRecord:
    """The content of project.json."""

    video: VideoRecord
    tracks: tuple[TrackRecord, ...] = ()


class ProjectFolder:
    """The files of one project.

    Parameters
    ----------
    root
        The folder; made when something is first written into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def project_path(self) -> Path:
        """Where project.json is."""
        return self.root / "project.json"

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is."""
        return self.root / "ledger.jsonl"

    @property
    def lock_path(self) -> Path:
        """Where the lock is; see :class:`napari_virst.io.project_lock.ProjectLock`."""
        return self.root / "session.lock"

    def mask_path(self, track_id: str) -> Path:
        """Where the (T, H, W) uint16 labels of a track are."""
        return self.root / "masks" / f"{track_id}.tif"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a project."""
        return self.project_path.is_file()

    def create(self) -> None:
        """Make the folder.

        Raises
        ------
        ProjectError
            When it cannot be written or already holds a project.
        """
        if self.exists:
            raise ProjectError(
                f"A new session must have a folder of its own; got {self.root}, which holds a project; "
                "open that project, or choose another folder."
            )
        try:
            (self.root / "masks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProjectError(
                f"A project folder must be writable; got {self.root} ({error.strerror}); choose another folder."
            ) from error

    def save(self, project: ProjectRecord) -> None:
        """Replace project.json in one step, so that a crash leaves the old one or the new one.

        Raises
        ------
        ProjectError
            When it cannot be written.
        """
        content = json.dumps({"format_version": FORMAT_VERSION, **asdict(project)}, indent=1, ensure_ascii=False)
        try:
            replace_file(self.project_path, content.encode())
        except OSError as error:
            raise ProjectError(
                f"A project must be saved in {self.root}; the disk said: {error.strerror}; "
                "make room or check the permissions. The masks on disk are safe."
            ) from error

    def load(self) -> ProjectRecord:
        """Read project.json.

        Raises
        ------
        ProjectError
            When there is none, it is damaged, or a newer napari-virst wrote it.
        """
        if not self.exists:
            raise ProjectError(
                f"A project folder must hold a project.json; got {self.root}; choose the folder in which it lies."
            )
        try:
            content = json.loads(self.project_path.read_text(encoding="utf-8"))
            _check_version(content, self.root)
            return _parse_project(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"The project.json in {self.root} must be readable; got {type(error).__name__}: {error}; "
                "restore it from a copy. The masks beside it are plain TIFF files and open without it."
            ) from error

    def check_files(self, project: ProjectRecord) -> None:
        """Check that every track has its files: without its records, a person's frames would look like nobody's.

        Raises
        ------
        ProjectError
            When any is missing; names all of them.
        """
        paths = [self.mask_path(track.track_id) for track in project.tracks]
        missing = [path for mask in paths for path in (mask, mask.with_suffix(".npy")) if not path.is_file()]
        if missing:
            names = ", ".join(f"masks/{path.name}" for path in missing)
            raise ProjectError(
                f"A project must hold the masks of all its tracks; {self.root} lacks {names}; restore them from a copy."
            )

    def append(self, entry: LedgerEntry) -> None:
        """Write one line to the end of the ledger, with the time now (UTC) if the entry has none.

        Raises
        ------
        ProjectError
            When it cannot be written.
        """
        if not entry.time_iso:
            entry = replace(entry, time_iso=datetime.now(UTC).isoformat(timespec="milliseconds"))
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        try:
            with self.ledger_path.open("a+b") as file:
                if _ends_within_line(file):
                    line = "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise ProjectError(
                f"The ledger must be writable; got {self.ledger_path} ({error.strerror}); check the disk."
            ) from error

    def ledger(self) -> Iterator[LedgerEntry]:
        """Every entry, oldest first; a last line that a crash cut short is left out."""
        if not self.ledger_path.is_file():
            return
        for line in self.ledger_path.read_text(encoding="utf-8").splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                continue
            yield LedgerEntry(**{**content, "frames": tuple(content["frames"])})

    def new_track_id(self, name: str) -> str:
        """Return a name for the files of a new track that nothing in the folder has yet."""
        letters = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower())
        words = "-".join(letters.split())[:40].strip("-") or "track"
        number = 1
        while self.mask_path(f"{words}-{number}").exists():
            number += 1
        return f"{words}-{number}"


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that at every moment the old or the new content is there, whole."""
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _ends_within_line(file: BinaryIO) -> bool:
    """Whether a crash cut the last line short."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _check_version(content: dict[str, Any], root: Path) -> None:
    version = content["format_version"]
    if version > FORMAT_VERSION:
        raise ProjectError(
            f"A project must have format version {FORMAT_VERSION} or older; {root} has {version}; "
            "open it with the newer napari-virst that wrote it."
        )


def _parse_project(content: dict[str, Any]) -> ProjectRecord:
    video = content["video"]
    t, h, w = video["shape"]
    return ProjectRecord(
        VideoRecord(**{**video, "shape": (int(t), int(h), int(w))}),
        tuple(_parse_track(track) for track in content["tracks"]),
    )


def _parse_track(content: dict[str, Any]) -> TrackRecord:
    run = content["run"]
    return TrackRecord(
        track_id=content["track_id"],
        query=Query(**content["query"]),
        label=content["label"],
        revision=content["revision"],
        window=None if content["window"] is None else Span(**content["window"]),
        model_anchors=tuple(content["model_anchors"]),
        excluded_anchors=tuple(content["excluded_anchors"]),
        pinned_anchors=tuple(content.get("pinned_anchors", ())),
        demoted_anchors=tuple(content.get("demoted_anchors", ())),
        locked=tuple(Span(**span) for span in content.get("locked", ())),
        lineage=_parse_lineage(content.get("lineage")),
        learns=content.get("learns", False),
        run=RunRecord(
            spans=tuple(Span(**span) for span in run["spans"]),
            anchors={int(frame): checksum for frame, checksum in run["anchors"].items()},
            excluded=tuple(run["excluded"]),
            pinned=tuple(run.get("pinned", ())),
            thorough=run.get("thorough", False),
            learned=run.get("learned", False),
        ),
    )


def _parse_lineage(content: dict[str, int] | None) -> dict[int, int] | None:
    return None if content is None else {int(child): parent for child, parent in content.items()}
