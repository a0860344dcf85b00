"""What language alone says of a video: ST prompts of the sampled frames, and the masks they decode to."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_virst.engine.stopping import StoppedError
from napari_virst.model.anchors import spread_anchors
from napari_virst.model.windows import paste

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.engine.encoding import VideoEncoder
    from napari_virst.engine.options import PredictorOptions, Settings
    from napari_virst.model.processing import FrameSample, VirstProcessor
    from napari_virst.model.readout import ImageFeatures
    from napari_virst.model.segmenter import Decoded, Segmenter
    from napari_virst.model.virst import Grounding, VirstModel


@dataclass(frozen=True, eq=False)
class GroundedFrame:
    """What language alone says of one sampled frame."""

    frame: int
    mask: NDArray[np.bool_]
    presence: float
    predicted_iou: float
    prompts: tuple[Tensor, ...] = ()
    """ST prompts (1, N, C) of the frame: one, or several where a short video repeats it."""


def decode_prompts(segmenter: Segmenter, features: ImageFeatures, prompts: tuple[Tensor, ...]) -> Decoded:
    """Decode a frame from its ST prompts; each one after the first sees the answer before it, as published."""
    decoded = segmenter.decode_prompted(features, prompts[0])
    for prompts_1NC in prompts[1:]:
        decoded = segmenter.decode_prompted(features, prompts_1NC, decoded.low_res_B1hw)
    return decoded


class Grounder:
    """Grounds queries, and keeps the answers to the last few."""

    def __init__(
        self, model: VirstModel, processor: VirstProcessor, settings: Settings, options: PredictorOptions
    ) -> None:
        self._model, self._processor, self._settings, self._options = model, processor, settings, options
        self._known: OrderedDict[tuple[str, str], tuple[GroundedFrame, ...]] = OrderedDict()

    def ground(self, video: VideoEncoder, text: str, should_stop: Callable[[], bool]) -> tuple[GroundedFrame, ...]:
        """Return the grounded frames in order of time; empty when told to stop.

        All segmentation frames in the default preset; in the reference preset its anchors alone.
        """
        key = (video.fingerprint, text)
        if key not in self._known:
            grounded = self._ground(video, text, should_stop)
            if not grounded:
                return ()
            self._known[key] = grounded
            while len(self._known) > self._options.num_cached_groundings:
                self._known.popitem(last=False)
        return self._known[key]

    def sample(self, num_frames: int) -> FrameSample:
        """Choose the frames to look at."""
        if self._options.frame_sample is not None:
            self._options.frame_sample.check(num_frames, self._model.config.video_config.num_frames_per_clip)
            return self._options.frame_sample
        settings = self._settings
        return self._processor.sample_frames(num_frames, settings.num_vlm_frames, settings.num_segmentation_frames)

    @torch.inference_mode()
    def _ground(self, video: VideoEncoder, text: str, should_stop: Callable[[], bool]) -> tuple[GroundedFrame, ...]:
        sample = self.sample(video.shape[0])
        images: dict[int, Tensor] = {}
        maps: dict[int, Tensor] = {}
        shared: dict[int, ImageFeatures] = {}
        tokens_known = video.knows_visual_tokens(sample.vlm)
        for frame in sorted(set(sample.vlm)):
            if should_stop():
                return ()
            if not tokens_known:
                images[frame] = video.tower_pixels(frame)
            if frame in sample.segmentation:
                features = video.prompter_features(frame)
                maps[frame] = features.coarse_BCHW
                if not self._settings.is_reference:  # which decodes anchors from another filter's features
                    shared[frame] = features
        try:
            visual_1VD = video.visual_tokens(sample.vlm, images, should_stop)
        except StoppedError:
            return ()
        grounding = self._ask(video, text, sample, visual_1VD, maps)
        answers, scores = [], []
        for frame, positions in self._decoded_positions(sample).items():
            if should_stop():
                return ()
            features = shared[frame] if shared else video.features(frame, keep=True)
            prompts = tuple(grounding.prompts_BNTC[:, :, position] for position in positions)
            answer, score = self._answer(video, frame, features, prompts)
            answers.append(answer)
            scores.append(score)
        if self._processor.names_nothing(text):  # any mask would be a guess
            return tuple(replace(answer, presence=0.0) for answer in answers)
        return _agreed(answers, scores, grounding)

    def _ask(
        self, video: VideoEncoder, text: str, sample: FrameSample, visual_1VD: Tensor, maps: dict[int, Tensor]
    ) -> Grounding:
        """Turn the words into ST prompts of the segmentation frames."""
        maps_1TCHW = torch.stack([maps[f] for f in sample.segmentation], 1)
        tokens = self._processor.text_ids(text)
        ids_1L, padding_1L = tokens.input_ids.to(video.device), tokens.attention_mask.to(video.device)
        fuse = self._settings.use_initial_fusion
        return self._model.ground(visual_1VD, ids_1L, padding_1L, maps_1TCHW, use_initial_fusion=fuse)

    def _decoded_positions(self, sample: FrameSample) -> dict[int, list[int]]:
        """Frames to decode, with the positions of their prompts among the segmentation frames."""
        frames = sample.segmentation
        positions: dict[int, list[int]] = {}
        if not self._settings.is_reference:
            return {frame: [frames.index(frame)] for frame in dict.fromkeys(frames)}
        for position in spread_anchors(len(frames), self._settings.num_anchors):
            positions.setdefault(frames[position], []).append(position)
        return positions

    def _answer(
        self, video: VideoEncoder, frame: int, features: ImageFeatures, prompts: tuple[Tensor, ...]
    ) -> tuple[GroundedFrame, float]:
        """Decode one frame; its object score logit beside it."""
        decoded = decode_prompts(self._model.segmenter, features, prompts)
        mask = paste(decoded.low_res_B1hw[0, 0], video.whole, *video.shape[1:])
        score = float(decoded.score_B)
        return GroundedFrame(frame, mask, _sigmoid(score), float(decoded.best_iou_B), prompts), score


def _agreed(answers: list[GroundedFrame], scores: list[float], grounding: Grounding) -> tuple[GroundedFrame, ...]:
    """Let no frame be surer of the object than its surest frame and the language side are of the video, together.

    Their log-odds are added up. Told apart so, absent and present queries of scenes had an AUC of 0.989; by the surest
    frame alone 0.985, by the language side alone 0.965.
    """
    if grounding.present_B is None:
        return tuple(answers)
    ceiling = _sigmoid(max(scores) + float(grounding.present_B))
    return tuple(replace(answer, presence=min(answer.presence, ceiling)) for answer in answers)


def _sigmoid(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))
