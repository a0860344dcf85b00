"""Follows objects from their anchors through memory, one frame at a time, those on the same frame as one batch."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from napari_virst.engine.carrying import CarriedMasks
from napari_virst.engine.grounding import GroundedFrame, decode_prompts
from napari_virst.model.memory import ObjectMemory, group_alike, join_views, split_entry
from napari_virst.model.windows import Window, add_evidence, cut_at, expected_step, paste
from napari_virst.records import Anchor, AnchorKind, FrameResult, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_virst.engine.encoding import VideoEncoder
    from napari_virst.engine.options import PredictorOptions, Settings
    from napari_virst.engine.pointers import PointerBook
    from napari_virst.model.anchors import Direction, Leg
    from napari_virst.model.readout import ImageFeatures, MemoryEntry
    from napari_virst.model.segmenter import Decoded
    from napari_virst.model.virst import VirstModel
    from napari_virst.records import Job

    Evidence = NDArray[np.float32] | None


class AnchorEntries:
    """Memories of the last anchors, so that a correction encodes the anchor that is new and no other."""

    def __init__(self, num_entries: int = 64) -> None:
        self._num_entries = num_entries
        self._given: OrderedDict[tuple[str, int, Window, bytes], MemoryEntry] = OrderedDict()
        self._grounded: WeakKeyDictionary[GroundedFrame, MemoryEntry] = WeakKeyDictionary()

    def given(self, video: str, anchor: Anchor, window: Window, make: Callable[[], MemoryEntry]) -> MemoryEntry:
        """Return the memory of a mask that a person gave, made where it is not known."""
        digest = hashlib.blake2b(np.packbits(anchor.mask).tobytes(), digest_size=16).digest()
        key = video, anchor.frame, window, digest
        entry = self._given.pop(key, None) or make()
        self._given[key] = entry
        while len(self._given) > self._num_entries:
            self._given.popitem(last=False)
        return entry

    def grounded(self, frame: GroundedFrame, make: Callable[[], MemoryEntry]) -> MemoryEntry:
        """Return the memory of a model anchor, made where it is not known; it lives as long as the grounding."""
        if frame not in self._grounded:
            self._grounded[frame] = make()
        return self._grounded[frame]


class FollowedObject:
    """Where one object stands: its memory, its anchors' masks, and the window it is looked for in.

    Memory is bounded whatever the length of the video.
    """

    def __init__(self, job: Job, memory: ObjectMemory, window: Window, passing: frozenset[int]) -> None:
        self.job, self.memory, self.window, self.passing = job, memory, window, passing
        self.masks: dict[int, NDArray[np.bool_]] = {}
        self.centres: dict[int, tuple[float, float]] = {}
        """Where anchors that condition say the object is: frame to (y, x) in pixels."""
        self.window_frame: int | None = None
        """The frame that the window was put around; None where it shows every frame."""
        self.passed: dict[int, MemoryEntry] = {}
        self.agreements: dict[int, float] = {}
        self.demoted: dict[int, NDArray[np.bool_]] = {}
        self.decoder: nn.Module | None = None
        """Stands in for the shared mask decoder where this object is followed."""
        self.carried: CarriedMasks | None = None
        """What user anchors that condition say of the frames around them."""
        self.pointer: NDArray[np.float32] | None = None
        """(C,) object pointer of the frame that was followed last; None where the model has none."""


class Follower:
    """Runs the segmenter for the objects of one run; it holds no state but theirs."""

    def __init__(
        self,
        model: VirstModel,
        settings: Settings,
        options: PredictorOptions,
        video: VideoEncoder,
        entries: AnchorEntries,
        pointers: PointerBook,
    ) -> None:
        self._segmenter, self._settings, self._options, self._video = model.segmenter, settings, options, video
        self._max_pointers = model.config.segmenter_config.sam2_config.max_object_pointers_in_encoder
        self._entries, self._pointers = entries, pointers

    def object_of(self, job: Job, passing: frozenset[int] = frozenset()) -> FollowedObject:
        """Return an object that nothing is known of yet; user anchors in ``passing`` will not condition."""
        memory = ObjectMemory(
            self._video.shape[0],
            max_anchors=self._settings.max_anchors,
            num_fifo_frames=self._settings.num_fifo_frames,
            max_pointers=self._max_pointers,
            prefer_user_anchors=not self._settings.is_reference,
        )
        return FollowedObject(job, memory, self._video.whole, passing)

    # Anchors ---------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def add_user_anchors(self, thing: FollowedObject, should_stop: Callable[[], bool]) -> bool:
        """Put the user anchors into memory; False when told to stop before the last."""
        anchors = thing.job.anchors
        seen = [anchor for anchor in anchors if not anchor.is_absent]
        for anchor in anchors:
            self._hold(thing, anchor.frame, anchor.mask)
        for anchor in anchors:
            if should_stop():
                return False
            nearest = min(seen, key=lambda a: abs(a.frame - anchor.frame), default=None)
            window = (self._window_of(nearest.mask) if nearest is not None else None) or self._video.whole

            def remember(anchor: Anchor = anchor, window: Window = window) -> MemoryEntry:
                """Encode the mask as a memory, where none is kept of it."""
                return self._remember_given(anchor.frame, anchor.mask, window, keep=True)

            entry = self._entries.given(self._video.fingerprint, anchor, window, remember)
            if anchor.frame in thing.passing:
                thing.passed[anchor.frame] = entry
            else:
                thing.memory.add_anchor(anchor.frame, entry, is_user=anchor.kind is AnchorKind.USER)
        if self._settings.follow_with_windows:
            given = {anchor.frame: anchor.mask for anchor in anchors if anchor.frame not in thing.passing}
            only_onward = self._options.directions == "forward"
            thing.carried = CarriedMasks(self._video.gray, given, self._options.carry_rule, only_onward=only_onward)
        return True

    @torch.inference_mode()
    def add_model_anchor(self, thing: FollowedObject, grounded: GroundedFrame) -> None:
        """Put what language said of a frame into memory."""
        entry = self._entries.grounded(grounded, lambda: self._remember_grounded(grounded))
        thing.memory.add_anchor(grounded.frame, entry)
        self._hold(thing, grounded.frame, grounded.mask)

    @torch.inference_mode()
    def agreement(self, thing: FollowedObject, grounded: GroundedFrame) -> float:
        """Return the IoU, 0…1, of what language found with what the anchors held so far, read directly, find there."""
        window = self._window_of(grounded.mask) or self._video.whole
        features = self._video.features(grounded.frame, window, keep=True)
        decoded = self._segmenter.decode_tracked(features, thing.memory.view(grounded.frame))
        mask = paste(decoded.low_res_B1hw[0, 0], window, *self._video.shape[1:])
        union = int(np.count_nonzero(mask | grounded.mask))
        return int(np.count_nonzero(mask & grounded.mask)) / max(1, union)

    @torch.inference_mode()
    def lesson(self, job: Job, anchor: Anchor, should_stop: Callable[[], bool]) -> tuple[ImageFeatures, Tensor] | None:
        """Return a user anchor's frame as it would be followed from the others, and its mask (1, 1, S, S), 0 or 1.

        None when told to stop.
        """
        others = tuple(other for other in job.anchors if other.frame != anchor.frame)
        thing = self.object_of(replace(job, anchors=others))
        if not self.add_user_anchors(thing, should_stop):
            return None
        window = self._window_of(anchor.mask) or self._video.whole
        features = self._video.features(anchor.frame, window, keep=True)
        conditioned = self._segmenter.condition(features, thing.memory.view(anchor.frame))
        return conditioned, self._video.mask(anchor.mask, window)

    def _remember_grounded(self, grounded: GroundedFrame) -> MemoryEntry:
        if not self._settings.decode_anchors:
            window = self._window_of(grounded.mask) or self._video.whole
            return self._remember_given(grounded.frame, grounded.mask, window, keep=True)
        features = self._video.features(grounded.frame, keep=True)
        return self._segmenter.remember(features, decode_prompts(self._segmenter, features, grounded.prompts))

    def _remember_given(self, frame: int, mask: NDArray[np.bool_], window: Window, *, keep: bool) -> MemoryEntry:
        features = self._video.features(frame, window, keep=keep and self._settings.follow_with_windows)
        decoded = self._segmenter.decode_given(features, self._video.mask(mask, window))
        return self._segmenter.remember(features, decoded)

    # Following -------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def enter(self, thing: FollowedObject, leg: Leg) -> None:
        """Get an object ready for the first frame of a leg.

        A leg that does not start next to an anchor goes on where an earlier run was stopped: the masks that the track
        holds of the frames before it are remembered as if they had just been followed.
        """
        thing.memory.forget_tracked()
        first = leg.frames[0]
        self._place_first(thing, first)
        known_mask, anchors = thing.job.known_mask, thing.memory.anchor_frames
        if known_mask is None or self._settings.is_reference or first - leg.direction in anchors:
            return
        before = [first - leg.direction * n for n in range(self._settings.num_fifo_frames, 0, -1)]
        for frame in before:
            if frame in anchors or not 0 <= frame < self._video.shape[0]:
                continue
            mask = known_mask(frame)
            if mask is not None:
                self._place(thing, frame, self._window_of(mask))
                thing.memory.add_tracked(frame, self._remember_given(frame, mask, thing.window, keep=False))

    def pass_anchor(self, thing: FollowedObject, frame: int) -> None:
        """Take the window from an anchor on the way, and remember one that does not condition."""
        if frame in thing.passed:
            thing.memory.add_tracked(frame, thing.passed[frame])
        self._place(thing, frame, self._window_of(thing.masks[frame], thing.window))

    @torch.inference_mode()
    def step(
        self,
        frame: int,
        direction: Direction,
        things: Sequence[FollowedObject],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[FrameResult]:
        """Follow objects into one frame, and return what it says of each.

        Raises
        ------
        StoppedError
            When told to stop before it was finished.
        """
        if self._settings.follow_with_windows:
            self._video.read(frame)  # before flow asks for it, out of turn
            for thing in things:
                self._go_along(thing, frame, should_stop)
        features = self._video.features_of_objects(frame, [thing.window for thing in things])
        views = [thing.memory.view(frame, direction) for thing in things]
        results: dict[int, FrameResult] = {}
        for rows in _by_decoder(group_alike(views), things):
            part = self._segmenter.prepare(features if len(rows) == len(things) else _rows_of(features, rows))
            view, decoder = join_views([views[row] for row in rows]), things[rows[0]].decoder
            decoded = self._segmenter.decode_tracked(part, view, decoder)
            members = [things[row] for row in rows]
            scores = decoded.score_B.tolist()
            evidence = [self._evidence(*each, frame, should_stop) for each in zip(members, scores, strict=True)]
            told = self._told(decoded, members, evidence)
            entries = split_entry(self._segmenter.remember(part, told))
            for row, entry in zip(rows, entries, strict=True):
                things[row].memory.add_tracked(frame, entry)
            answers = self._answers(frame, decoded, members, evidence)
            results.update(zip(rows, answers, strict=True))
        return [results[row] for row in range(len(things))]

    def keep_pointer(self, thing: FollowedObject, result: FrameResult) -> None:
        """Keep the pointer of an answer for the runs that come after this one."""
        if thing.pointer is not None:
            self._pointers.note(self._video.fingerprint, result.frame, result.mask, thing.pointer)

    def _evidence(self, thing: FollowedObject, score: float, frame: int, should_stop: Callable[[], bool]) -> Evidence:
        """Ask what given masks around a frame say of it; nothing where the network says that the object is hidden."""
        if thing.carried is None or score <= 0:
            return None
        return thing.carried.log_odds(frame, thing.window.place(*self._video.shape[1:]), should_stop)

    def _told(self, decoded: Decoded, things: Sequence[FollowedObject], evidence: Sequence[Evidence]) -> Decoded:
        """Add what given masks say, so that a frame is remembered as it is answered."""
        if all(said is None for said in evidence):
            return decoded
        shape = self._video.shape[1:]
        rows = [
            logits_1hw[0] if said is None else add_evidence(logits_1hw[0], thing.window, said, shape)
            for logits_1hw, thing, said in zip(decoded.low_res_B1hw, things, evidence, strict=True)
        ]
        return replace(decoded, low_res_B1hw=torch.stack(rows)[:, None])

    def _answers(
        self, frame: int, decoded: Decoded, things: Sequence[FollowedObject], evidence: Sequence[Evidence]
    ) -> list[FrameResult]:
        height, width = self._video.shape[1:]
        presences, ious = decoded.score_B.sigmoid().tolist(), decoded.best_iou_B.tolist()
        pointers = None if decoded.pointer_BC is None else decoded.pointer_BC.float().cpu().numpy()
        answers = []
        for row, thing in enumerate(things):
            thing.pointer = None if pointers is None else pointers[row]
            threshold = cut_at(ious[row]) if self._settings.follow_with_windows else 0.0
            mask = paste(decoded.low_res_B1hw[row, 0], thing.window, height, width, threshold, evidence[row])
            answers.append(
                FrameResult(
                    frame,
                    mask,
                    presences[row],
                    ious[row],
                    Provenance.PROPAGATED,
                    thing.job.revision,
                    thing.agreements.get(frame, math.nan),
                    is_demoted=frame in thing.demoted,
                )
            )
            if self._settings.follow_with_windows:
                rule, window = self._options.window_rule, thing.window
                self._place(thing, frame, rule.around(mask, window) or rule.grown(window, (height, width)))
        return answers

    def _hold(self, thing: FollowedObject, frame: int, mask: NDArray[np.bool_]) -> None:
        thing.masks[frame] = mask
        around = self._options.window_rule.around(mask) if self._settings.follow_with_windows else None
        if around is not None and frame not in thing.passing:
            thing.centres[frame] = around.centre

    @staticmethod
    def _place(thing: FollowedObject, frame: int, window: Window | None) -> None:
        if window is not None:
            thing.window, thing.window_frame = window, frame

    @staticmethod
    def _go_along(thing: FollowedObject, frame: int, should_stop: Callable[[], bool]) -> None:
        """Move the window to where the object is expected: evenly between known places, else by optical flow."""
        if thing.window_frame is None or thing.window_frame == frame:
            return
        step = expected_step(thing.centres, thing.window_frame, frame)
        if step is None and thing.carried is not None:
            step = thing.carried.step(thing.window_frame, frame, should_stop)
        thing.window, thing.window_frame = thing.window.moved(*step or (0.0, 0.0)), frame

    def _place_first(self, thing: FollowedObject, first: int) -> None:
        """Put the window around the known mask that is nearest to the first frame of a leg."""
        thing.window, thing.window_frame = self._video.whole, None
        known = [frame for frame, mask in thing.masks.items() if mask.any()]
        if known and self._settings.follow_with_windows:
            nearest = min(known, key=lambda f: abs(f - first))
            self._place(thing, nearest, self._window_of(thing.masks[nearest]))

    def _window_of(self, mask: NDArray[np.bool_], previous: Window | None = None) -> Window | None:
        if not self._settings.follow_with_windows:
            return self._video.whole
        return self._options.window_rule.around(mask, previous)


def _by_decoder(groups: list[list[int]], things: Sequence[FollowedObject]) -> list[list[int]]:
    """Split groups of rows so that the objects of each share one decoder."""
    parts: dict[tuple[int, int], list[int]] = {}
    for number, rows in enumerate(groups):
        for row in rows:
            parts.setdefault((number, id(things[row].decoder)), []).append(row)
    return list(parts.values())


def _rows_of(features: ImageFeatures, rows: list[int]) -> ImageFeatures:
    return features[torch.tensor(rows, device=features.coarse_BCHW.device)]
