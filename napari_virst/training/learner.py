"""Everything that is trained, as one module with one forward pass, which is what data-parallel training wraps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_virst.training.auxiliary import Auxiliary
from napari_virst.training.lessons import FollowLesson
from napari_virst.training.steps import Loss, follow_step, ground_step, propagate_step, watch_step

if TYPE_CHECKING:
    from napari_virst.model.processing import VirstProcessor
    from napari_virst.model.virst import VirstModel
    from napari_virst.training.lessons import AskedLesson
    from napari_virst.training.losses import LossWeights


@dataclass(frozen=True)
class AskingPlan:
    """How a language lesson is given; the same on all devices of one step, so that they train the same weights."""

    segmentation_frames: tuple[int, ...]
    decoded_places: tuple[int, ...]
    """Which of them are decoded."""
    show_video: bool = True
    freeze_encoder: bool = False
    is_propagated: bool = False
    is_watched: bool = False
    """Nothing is asked: the video tower alone names what goes on."""


class Learner(nn.Module):
    """Model and auxiliary tasks.

    Parameters
    ----------
    model, processor
        What learns, and what prepares its inputs.
    weights
        Of the loss terms.
    precision
        Of matrix products and convolutions; weights and losses stay in float32.
    head_WD
        The vocabulary head, W words; needed only where the token loss counts. The input embeddings stand in for it.
    """

    def __init__(
        self,
        model: VirstModel,
        processor: VirstProcessor,
        weights: LossWeights,
        precision: torch.dtype = torch.float32,
        head_WD: Tensor | None = None,
    ) -> None:
        super().__init__()
        config = model.config
        widths = config.segmenter_config.num_channels, config.video_config.hidden_size, config.text_config.hidden_size
        self.model = model
        self.auxiliary = Auxiliary(*widths)
        self.processor, self.weights, self.precision = processor, weights, precision
        self.head_WD: Tensor | None
        self.register_buffer("head_WD", head_WD, persistent=False)

    def forward(self, lesson: AskedLesson | FollowLesson, plan: AskingPlan | None = None) -> Loss:
        """Return the loss of a lesson and its terms."""
        device_type = lesson.pixels_BT3SS.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
            if isinstance(lesson, FollowLesson):
                return follow_step(self.model, lesson, self.weights)
            assert plan is not None
            return self._ask(lesson, plan)

    def _ask(self, lesson: AskedLesson, plan: AskingPlan) -> Loss:
        if plan.is_watched:
            return watch_step(self.model, lesson, self.auxiliary)
        what = self.model, self.processor, lesson, self.weights, self.auxiliary
        if plan.is_propagated:
            return propagate_step(*what, segmentation_frames=plan.segmentation_frames, head_WD=self.head_WD)
        return ground_step(
            *what,
            segmentation_frames=plan.segmentation_frames,
            decoded_places=plan.decoded_places,
            show_video=plan.show_video,
            freeze_encoder=plan.freeze_encoder,
            head_WD=self.head_WD,
        )
