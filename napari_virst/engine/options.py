"""Choices at inference that do not change the weights, and what they come to for one model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from napari_virst.errors import InputError
from napari_virst.model.config import InferencePreset
from napari_virst.model.windows import WindowRule

if TYPE_CHECKING:
    from napari_virst.engine.cache import CacheLimits
    from napari_virst.model.config import VirstConfig
    from napari_virst.model.processing import FrameSample

CorrectionMemory = Literal["conditioning", "non_conditioning"]
Directions = Literal["both", "forward"]


@dataclass(frozen=True)
class LearningRule:
    """How a job that asks for it learns from its user anchors (:mod:`napari_virst.engine.adapting`)."""

    rank: int = 4
    num_steps: int = 30
    learning_rate: float = 0.002
    """0.006 made other frames worse on clips where 0.002 made them better (docs/benchmarks/learning.md)."""
    min_gain: float = 0.03
    """By how much the mean IoU on corrections that were left out must rise for the adapter to be used; where it rose by
    0.01…0.02, the other frames came out better on two objects and worse on two (docs/benchmarks/learning.md)."""
    max_corrections: int = 8
    """Corrections learned from, spread over time; at least 2 are needed."""
    max_folds: int = 4
    """In how many turns corrections are left out."""
    seed: int = 0


@dataclass(frozen=True)
class CarryRule:
    """How far masks are carried (:mod:`napari_virst.engine.carrying`), and how much they count.

    Chosen on procedural clips (docs/decisions/0011).
    """

    reach_frames: int = 8
    """Frames on either side of a given mask; 0: nothing is carried."""
    weight: float = 1.0
    """Of the carried mask's log-odds beside the network's, one frame away; it falls with one over the distance."""

    def __post_init__(self) -> None:
        if self.reach_frames < 0 or self.weight < 0:
            raise InputError(f"A rule of carrying must have no negative number; got {self}; 0 frames carry nothing.")


@dataclass(frozen=True)
class PredictorOptions:
    """Choices at inference; None leaves a choice to the preset, and what the preset leaves open to the model's config.

    Raises
    ------
    InputError
        When a choice is out of range.
    """

    preset: InferencePreset | None = None
    """``"default"``: one filter, so that a frame is encoded once; both directions; anchors checked against the user's.
    ``"reference"``: what the published code does; its own two filters, forward from frame 0, its anchors as they are,
    whole frames, initial fusion off."""
    num_vlm_frames: int | None = None
    """Most frames that the language side sees."""
    num_segmentation_frames: int | None = None
    """Most of those that fusion and prompter see too."""
    num_anchors: int | None = None
    """Model anchors spread over the segmentation frames."""
    max_anchors: int | None = None
    """α: anchors that condition one frame."""
    num_fifo_frames: int | None = None
    """P: recent frames that condition one frame."""
    use_initial_fusion: bool | None = None
    """Whether the first fusion runs."""
    frame_sample: FrameSample | None = None
    """The very frames to look at, in place of the deterministic choice (the published code draws them at random)."""
    follow_with_windows: bool = True
    """Decode inside a window around the object instead of the whole frame; only where the memory readout is
    ``"affinity"`` and the preset is the default."""
    window_rule: WindowRule = field(default_factory=WindowRule)
    carry_rule: CarryRule = field(default_factory=CarryRule)
    """How masks that a person gave are carried along optical flow to the frames around them; only where windows
    follow, and only masks that condition."""
    presence_threshold: float = 0.5
    """A query whose presence stays below this on every sampled frame is answered "not in this video"."""
    agreement_iou: float = 0.3
    """A model anchor whose mask overlaps less with what the user anchors say of its frame is demoted."""
    arbitrate: bool = True
    """Whether such anchors are demoted at all; False keeps every one of them."""
    correction_memory: CorrectionMemory = "conditioning"
    """``"non_conditioning"`` remembers user anchors after the first as frames that were followed, SAM 2's default for
    corrections on followed frames: for comparison."""
    directions: Directions = "both"
    """``"forward"`` follows every gap forward from its earlier anchor: for comparison."""
    num_cached_groundings: int = 8
    convergence_frames: int = 4
    """How many frames in a row must agree with what the track holds before following away from a user anchor ends; 0:
    it never ends early (docs/benchmarks/sharing.md says why 4 and 0.95). Only where a job brings ``known_mask``."""
    convergence_iou: float = 0.95
    """From which IoU on the masks of a frame agree."""
    convergence_cosine: float = 0.95
    """From which cosine on object pointers agree, where the model has any; it can only make a re-run follow longer.
    With random weights, all that there was to measure with, it changes nothing: the cosine is 0.98 or more wherever
    masks agree (docs/benchmarks/sharing.md)."""
    learning: LearningRule = field(default_factory=LearningRule)
    cache: CacheLimits | None = None
    """What may be kept of videos; None: as the environment says (:meth:`CacheLimits.from_environment`)."""

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in get_args(InferencePreset):
            allowed = " or ".join(f'"{name}"' for name in get_args(InferencePreset))
            raise InputError(f'The preset must be {allowed}; got "{self.preset}"; choose one.')
        for name, choices in (("correction_memory", CorrectionMemory), ("directions", Directions)):
            if getattr(self, name) not in get_args(choices):
                allowed = " or ".join(f'"{choice}"' for choice in get_args(choices))
                raise InputError(f'{name} must be {allowed}; got "{getattr(self, name)}"; choose one.')
        if not 0 < self.convergence_iou <= 1:
            raise InputError(f"convergence_iou must be in 0…1; got {self.convergence_iou}; 0.95 is the default.")
        if not -1 <= self.convergence_cosine <= 1:
            raise InputError(f"convergence_cosine must be in -1…1; got {self.convergence_cosine}; 0.95 is the default.")
        counts = ("num_vlm_frames", "num_segmentation_frames", "num_anchors", "max_anchors", "num_fifo_frames")
        for name in (*counts, "convergence_frames"):
            value, least = getattr(self, name), 0 if name in ("num_fifo_frames", "convergence_frames") else 1
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}; got {value}; raise it.")


@dataclass(frozen=True)
class Settings:
    """What the options come to for one model: nothing is left open."""

    is_reference: bool
    num_vlm_frames: int
    num_segmentation_frames: int
    num_anchors: int | None
    """None: a quarter of the segmentation frames, as published."""
    max_anchors: int
    num_fifo_frames: int
    use_initial_fusion: bool
    follow_with_windows: bool
    decode_anchors: bool
    """Whether a model anchor is remembered by its ST prompts' own answer, rather than by its mask given back."""

    @property
    def shares_features(self) -> bool:
        """Whether one encoding of a frame serves language and propagation."""
        return not self.is_reference and not self.follow_with_windows


def settle(options: PredictorOptions, config: VirstConfig) -> Settings:
    """Fill in what the options leave open."""
    preset = options.preset or config.inference_preset
    is_reference, reads_by_attention = preset == "reference", config.segmenter_config.memory_readout == "attention"
    fusion = False if is_reference else config.st_fusion_config.use_initial_fusion
    return Settings(
        is_reference=is_reference,
        num_vlm_frames=_first(options.num_vlm_frames, config.num_vlm_frames),
        num_segmentation_frames=_first(options.num_segmentation_frames, config.num_segmentation_frames),
        num_anchors=config.num_anchors if options.num_anchors is None else options.num_anchors,
        max_anchors=_first(options.max_anchors, config.max_anchors),
        num_fifo_frames=_first(options.num_fifo_frames, config.num_fifo_frames),
        use_initial_fusion=fusion if options.use_initial_fusion is None else options.use_initial_fusion,
        follow_with_windows=options.follow_with_windows and not is_reference and not reads_by_attention,
        decode_anchors=is_reference or reads_by_attention,
    )


def _first(chosen: int | None, configured: int) -> int:
    return configured if chosen is None else chosen
