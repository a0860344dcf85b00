"""A session on disk: a folder that any scientific tool can read while the session runs, and that survives a crash.

::

    project.json            format version, the video it belongs to, one entry per track; replaced atomically
    ledger.jsonl            one line per thing done: who did what to which frames, and when; only ever appended
    masks/<track>.tif       (T, H, W) uint16 labels, 0 = background; plain BigTIFF, sparse on disk
    masks/<track>.npy       (T,) records: provenance, presence, predicted IoU … of every frame (FRAME_RECORD)
    masks/<track>_predictions/000312.tif   (H, W) uint16: what the model had said of a frame before a person changed it

Masks and frame records are memory-mapped: a stroke is in the hands of the operating system when the write returns,
and nothing of it waits for project.json.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile

from napari_virst.errors import ProjectError
from napari_virst.records import LedgerEntry, Query, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FORMAT_VERSION = 1

FRAME_RECORD = np.dtype(
    [
        ("provenance", "u1"),  # a records.Provenance
        ("before", "u1"),  # the provenance before a person took the frame
        ("committed", "?"),  # a person said that the frame is right; undo does not hand it back
        ("revision", "<u4"),  # of the result that wrote the frame last; 0 = none did
        ("presence", "<f4"),  # 0…1, NaN = unknown
        ("predicted_iou", "<f4"),  # 0…1, NaN = unknown
    ]
)


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


@dataclass(frozen=True)
class RunRecord:
    """What the last run of a track was asked to compute, and from what."""

    spans: tuple[Span, ...] = ()
    anchors: dict[int, int] = field(default_factory=dict)
    """CRC-32 of the mask of every user anchor, by frame."""
    excluded: tuple[int, ...] = ()


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


class MaskFiles:
    """The memory-mapped files of one track.

    Attributes
    ----------
    labels
        (T, H, W) uint16, 0 = background. A view of masks/<track>.tif.
    records
        (T,) FRAME_RECORD. A view of masks/<track>.npy.

    Parameters
    ----------
    path
        masks/<track>.tif; made, all zero, where it does not exist.
    shape
        (T, H, W).

    Raises
    ------
    ProjectError
        When the files cannot be made, or hold something else.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path = Path(path)
        self._prediction_folder = self.path.with_name(f"{self.path.stem}_predictions")
        records_path = self.path.with_suffix(".npy")
        try:
            self.labels = _map_labels(self.path, shape)
            self.records = _map_records(records_path, shape[0])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise ProjectError(
                f"A track must have a mask file of {shape} uint16 and its records; got {self.path} ({error}); "
                "restore the file from a copy, or check the disk."
            ) from error

    def reserve(self) -> None:
        """Make sure that the disk can take one more frame: on a full disk, a memory-mapped write kills the process.

        Raises
        ------
        ProjectError
            When less than one frame and a reserve of 16 MB are free.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < self.labels[0].nbytes + 16_000_000:
            raise ProjectError(
                f"The disk must have room for one more mask; {self.path.parent} has {free / 1e6:.0f} MB left; "
                "make room."
            )

    def flush(self, frame: int | None = None) -> None:
        """Have the disk store one frame and its record, or everything.

        One frame of 1080 × 1920 takes 0.2–2 ms, a sparse file of 9.7 GB 3–5 ms (SSD, ext4).
        """
        self.records.flush()
        if frame is None:
            self.labels.flush()
            return
        mapping: Any = self.labels.base  # numpy.memmap keeps its mmap.mmap there
        start = self.labels.offset % mmap.ALLOCATIONGRANULARITY + frame * self.labels[0].nbytes
        page_start = start - start % mmap.ALLOCATIONGRANULARITY
        mapping.flush(page_start, start - page_start + self.labels[0].nbytes)

    def write_prediction(self, frame: int, labels: NDArray[np.uint16]) -> None:
        """Keep (H, W) uint16 ``labels`` as what the model said of ``frame``."""
        path = self._prediction_path(frame)
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        # Level 1: 17 ms for 1080 × 1920, against 59 ms at the default level.
        tifffile.imwrite(unfinished, labels, compression="zlib", compressionargs={"level": 1})
        os.replace(unfinished, path)

    def read_prediction(self, frame: int) -> NDArray[np.uint16] | None:
        """Return what the model said of ``frame`` as (H, W) uint16, or None where nothing is kept."""
        path = self._prediction_path(frame)
        try:
            return np.asarray(tifffile.imread(path), dtype=np.uint16).reshape(self.labels.shape[1:])
        except FileNotFoundError:
            return None

    def drop_prediction(self, frame: int) -> None:
        """Forget what the model said of ``frame``."""
        self._prediction_path(frame).unlink(missing_ok=True)

    def _prediction_path(self, frame: int) -> Path:
        return self._prediction_folder / f"{frame:06d}.tif"


def missing_bytes(folder: Path, shape: Sequence[int]) -> int:
    """Return how many bytes a full (T, H, W) uint16 stack would need beyond what the disk of ``folder`` has free."""
    num_bytes = 2 * int(np.prod(np.asarray(shape, dtype=np.int64)))
    return max(0, num_bytes - shutil.disk_usage(folder).free)


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


def _map_labels(path: Path, shape: tuple[int, int, int]) -> np.memmap[Any, np.dtype[np.uint16]]:
    if not path.exists():
        # Nothing is written through: 2352 × 1080 × 1920 (9.75 GB) takes 8 ms, 0.6 MB of disk and no memory.
        tifffile.memmap(
            path, shape=shape, dtype=np.uint16, bigtiff=True, photometric="minisblack", metadata={"axes": "TYX"}
        )
    labels: np.memmap[Any, np.dtype[np.uint16]] = tifffile.memmap(path, mode="r+")
    if labels.shape != shape or labels.dtype != np.uint16:
        raise ValueError(f"it holds {labels.shape} {labels.dtype}")
    return labels


def _map_records(path: Path, num_frames: int) -> np.memmap[Any, np.dtype[np.void]]:
    if not path.exists():
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            empty = np.zeros(num_frames, FRAME_RECORD)
            empty["presence"] = empty["predicted_iou"] = np.nan
            np.lib.format.write_array(file, empty)
        os.replace(unfinished, path)
    records: np.memmap[Any, np.dtype[np.void]] = np.lib.format.open_memmap(path, mode="r+")
    if records.shape != (num_frames,) or records.dtype != FRAME_RECORD:
        raise ValueError(f"the records hold {records.shape} {records.dtype}")
    return records


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
        run=RunRecord(
            spans=tuple(Span(**span) for span in run["spans"]),
            anchors={int(frame): checksum for frame, checksum in run["anchors"].items()},
            excluded=tuple(run["excluded"]),
        ),
    )
