"""What the session says to a person: pure functions from facts to sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_virst.io.project import VideoRecord
    from napari_virst.records import Learned, Query


def nothing_to_follow(query: Query) -> str:
    """Say that a query has neither words nor a mask."""
    return f"“{query.name}” has no words to follow: paint the object on one frame, then run."


def not_found(query: Query) -> str:
    """Say that a whole video was looked through, and no frame of it shows what was asked for."""
    return f"“{query.name}” is not in this video, says the model: use other words, or paint it on one frame, then run."


def unknown_words(words: tuple[str, ...], model: str) -> str:
    """Say which words of a query a model ignored; ``words`` must not be empty."""
    quoted = [f"'{word}'" for word in words]
    listed = quoted[0] if len(words) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
    verb, was, them = ("is", "was", "it") if len(words) == 1 else ("are", "were", "them")
    ending = f"; the full model knows {them}" if model == "compact" else "; try other words"
    return f"{listed} {verb} unknown to the {model} model and {was} ignored{ending}."


def learned(outcome: Learned) -> str:
    """Say what came of learning from corrections."""
    ious = f"{outcome.iou_before:.2f} → {outcome.iou_after:.2f}, each looked at from the others"
    if outcome.helped:
        return f"Learned from {outcome.num_corrections} corrections: {ious}."
    return f"Learning from {outcome.num_corrections} corrections did not help and was dropped: {ious}."


def too_few_to_learn() -> str:
    """Say when learning begins."""
    return "Learning begins with the second corrected frame that shows the object."


def small_disk(folder: Path, num_missing_bytes: int) -> str:
    """Say that a disk could not hold a mask on every frame."""
    return (
        f"The disk of {folder} is {num_missing_bytes / 1e9:.1f} GB too small for masks on every frame. "
        "Empty frames take no room, so this may still do; make room before it is full."
    )


def other_frames(video: VideoRecord) -> str:
    """Say that frames are not those of the project."""
    return (
        f"The frames differ from those this project was made with ({video.name}): another file, or another channel "
        "or plane of it. The masks are as they were; check that they fit."
    )


def other_shape(video: VideoRecord, shape: tuple[int, ...]) -> str:
    """Say that a video cannot be the one of the project."""
    own = f"{video.name} ({video.source})" if video.source else video.name
    return (
        f"The video must have the shape (T, H, W) = {video.shape} of this project's video; got {shape}; "
        f"open the project with its own video, {own}."
    )
