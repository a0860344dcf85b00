"""Between people's data and tensors: frames to pixels, text to ids, logits to masks, and which frames are looked at.

Shape legend: B queries, T frames, H W video size in pixels, S side of a model's input in pixels, L ids of a prompt,
h w size of low-resolution logits.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from napari_virst.errors import InputError, VideoError
from napari_virst.model.language import (
    IMAGE_TOKEN,
    ST_TOKEN,
    TURN_END,
    build_open_prompt,
    build_prompt,
    normalise_expression,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_virst.model.config import PromptStyle, VirstConfig

_NAMELESS_WORDS = (
    "a an the this that these those there here which where it is are in of on to at by with me and or please show find "
    "mark select segment track follow highlight outline one ones video clip picture frame"
)
_NAMELESS = frozenset(_NAMELESS_WORDS.split())
"""Words that name no object by themselves."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Stage = Literal["prompter", "propagation"]
Preset = Literal["default", "reference"]


@dataclass(frozen=True)
class ResizeFilters:
    """Which Pillow filter squashes a frame to a model's square input."""

    video: Image.Resampling
    """For the video tower."""
    prompter: Image.Resampling
    """For the segmenter, where its maps feed ST-Fusion."""
    propagation: Image.Resampling
    """For the segmenter, where its maps are decoded and remembered."""


RESIZE_PRESETS: dict[str, ResizeFilters] = {
    "reference": ResizeFilters(Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC),
    # One filter for both uses of the segmenter, so that a frame is encoded once.
    "default": ResizeFilters(Image.Resampling.BILINEAR, Image.Resampling.BILINEAR, Image.Resampling.BILINEAR),
}


@dataclass(frozen=True)
class FrameSample:
    """The frames of a video that grounding looks at, as frame numbers in time order."""

    vlm: tuple[int, ...]
    """For the video tower, whole clips; the last frame of a short video is repeated."""
    segmentation: tuple[int, ...]
    """Those of them that ST-Fusion and the prompter see too."""

    def check(self, num_frames: int, frames_per_clip: int) -> None:
        """Refuse a choice that cannot be looked at.

        Raises
        ------
        InputError
            When a frame is outside the video or out of order, the clips are not whole, or fusion would see a frame
            that the video tower does not.
        """
        for what, frames in (("sampled", self.vlm), ("segmentation", self.segmentation)):
            outside = [frame for frame in frames if not 0 <= frame < num_frames]
            if outside:
                raise InputError(
                    f"The {what} frames must be from 0 to {num_frames - 1}; got {outside[0]}; correct the list."
                )
            if not frames or list(frames) != sorted(frames):
                raise InputError(f"The {what} frames must be given in order of time; got {frames}; sort them.")
        if len(self.vlm) % frames_per_clip:
            raise InputError(
                f"The sampled frames must fill whole clips of {frames_per_clip}; got {len(self.vlm)}; "
                "add some, or repeat the last one."
            )
        if unseen := sorted(set(self.segmentation) - set(self.vlm)):
            raise InputError(
                f"The segmentation frames must be among the sampled frames; {unseen[0]} is not; add or drop it."
            )


def sample_vlm_frames(num_frames: int, max_frames: int = 64, frames_per_clip: int = 4) -> tuple[int, ...]:
    """Choose the frames that the video tower sees.

    The video is cut into as many equal segments as whole clips allow, and the middle frame of each is taken (the
    published code draws one at random). Up to 8 frames are all taken, and the last one repeated up to 8.

    Raises
    ------
    VideoError
        When the video has no frame.
    InputError
        When ``max_frames`` does not hold one clip.
    """
    if num_frames < 1:
        raise VideoError(f"A video must have at least one frame; got {num_frames}; choose another video.")
    if max_frames < frames_per_clip:
        raise InputError(f"max_frames must hold a clip of {frames_per_clip}; got {max_frames}; raise it.")
    fewest = min(8, max_frames) // frames_per_clip * frames_per_clip
    if num_frames <= fewest:
        return tuple(min(i, num_frames - 1) for i in range(fewest))
    num_samples = min(max_frames, num_frames) // frames_per_clip * frames_per_clip
    edges = [i * num_frames // num_samples for i in range(num_samples + 1)]
    return tuple((low + high - 1) // 2 for low, high in pairwise(edges))


def spread_evenly(num_items: int, max_items: int) -> tuple[int, ...]:
    """Return all positions of ``num_items``, or ``max_items`` of them spread from the first to the last."""
    if num_items <= max_items:
        return tuple(range(num_items))
    return tuple(int(i) for i in np.linspace(0, num_items - 1, max_items).round())


def masks_from_logits(logits_BHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring low-resolution mask logits (B, h, w) float to video size and cut at 0: (B, H, W) bool."""
    logits_B1HW = F.interpolate(logits_BHW[:, None].float(), size=size, mode="bilinear", align_corners=False)
    return logits_B1HW[:, 0] > 0


def build_word_tokenizer(
    words: Iterable[str], st_token: str = ST_TOKEN, image_token: str = IMAGE_TOKEN
) -> PreTrainedTokenizerFast:
    """Build a tokenizer of whole words: lower-cased, cut at white space and punctuation.

    Parameters
    ----------
    words
        What it shall know; phrases are cut like any other text, order and repetitions do not matter.
    st_token, image_token
        Reserved tokens, with ids 2 and 3 behind ``[PAD]`` and ``[UNK]``.
    """
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    pieces = {piece for word in words for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word))}
    reserved = ["[PAD]", "[UNK]", st_token, image_token]
    vocabulary = {token: i for i, token in enumerate(reserved + sorted(pieces.difference(reserved)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in reserved])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", padding_side="right"
    )


class VirstProcessor(ProcessorMixin):
    """Everything between a user's video and words and the tensors of the model.

    Parameters
    ----------
    tokenizer
        Any fast tokenizer. ``[SEG]`` and ``<image>`` are added to it, in this order, where it lacks them.
    video_size, segmenter_size
        Side in pixels of the square inputs of the video tower and of the segmenter.
    resize_preset
        ``"default"``: one filter everywhere. ``"reference"``: the filters of the published code, which encode every
        segmentation frame twice.
    image_mean, image_std
        Per RGB channel, of pixels in 0…1.
    prompt_style
        See :func:`~napari_virst.model.language.build_prompt`.
    num_st_tokens
        ST tokens in a prompt.
    image_token_id
        Id to write for the image placeholder; the tokenizer's own where None.
    num_vlm_frames, num_segmentation_frames, num_frames_per_clip
        How many frames of a video are looked at, and in clips of how many.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        # Not keyword-only: ProcessorMixin.from_pretrained would drop keyword-only settings.
        video_size: int = 448,
        segmenter_size: int = 1024,
        resize_preset: Preset = "default",
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        prompt_style: PromptStyle = "chat",
        num_st_tokens: int = 10,
        image_token_id: int | None = None,
        num_vlm_frames: int = 64,
        num_segmentation_frames: int = 32,
        num_frames_per_clip: int = 4,
    ) -> None:
        if resize_preset not in RESIZE_PRESETS:
            raise InputError(
                f'resize_preset must be one of {sorted(RESIZE_PRESETS)}; got "{resize_preset}"; choose one.'
            )
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (ST_TOKEN, IMAGE_TOKEN)])
        super().__init__(tokenizer)
        self.video_size = video_size
        self.segmenter_size = segmenter_size
        self.resize_preset = resize_preset
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.prompt_style = prompt_style
        self.num_st_tokens = num_st_tokens
        self.image_token_id = image_token_id
        self.num_vlm_frames = num_vlm_frames
        self.num_segmentation_frames = num_segmentation_frames
        self.num_frames_per_clip = num_frames_per_clip

    @classmethod
    def from_config(
        cls, config: VirstConfig, tokenizer: PreTrainedTokenizerFast, resize_preset: Preset = "default"
    ) -> VirstProcessor:
        """Return the processor that fits a model.

        Raises
        ------
        InputError
            When the tokenizer's ``[SEG]`` is not the model's ST token.
        """
        processor = cls(tokenizer, resize_preset=resize_preset, **cls.settings_of(config))
        if processor.st_token_id != config.st_token_id:
            raise InputError(
                f"The tokenizer must give {ST_TOKEN} the id {config.st_token_id}; got {processor.st_token_id}; "
                "use the tokenizer that belongs to this model."
            )
        return processor

    @staticmethod
    def settings_of(config: VirstConfig) -> dict[str, Any]:
        """Return the settings that follow from a model's sizes."""
        return {
            "video_size": config.video_config.image_size,
            "segmenter_size": config.segmenter_config.image_size,
            "prompt_style": config.prompt_style,
            "num_st_tokens": config.st_fusion_config.num_st_tokens,
            "image_token_id": config.image_token_id,
            "num_vlm_frames": config.num_vlm_frames,
            "num_segmentation_frames": config.num_segmentation_frames,
            "num_frames_per_clip": config.video_config.num_frames_per_clip,
        }

    @property
    def st_token_id(self) -> int:
        """Id of the ST token."""
        return int(self.tokenizer.convert_tokens_to_ids(ST_TOKEN))

    @property
    def shares_segmenter_features(self) -> bool:
        """Whether prompter and propagation see the same pixels, so that one encoding of a frame serves both."""
        filters = RESIZE_PRESETS[self.resize_preset]
        return filters.prompter == filters.propagation

    def with_resize_preset(self, preset: Preset) -> Self:
        """Return this processor with other filters; it shares the tokenizer."""
        other = copy(self)
        other.resize_preset = preset
        return other

    def sample_frames(
        self, num_frames: int, num_vlm_frames: int | None = None, num_segmentation_frames: int | None = None
    ) -> FrameSample:
        """Choose the frames of a video of ``num_frames`` that grounding looks at; the processor's counts where None."""
        vlm = sample_vlm_frames(num_frames, num_vlm_frames or self.num_vlm_frames, self.num_frames_per_clip)
        chosen = spread_evenly(len(vlm), num_segmentation_frames or self.num_segmentation_frames)
        return FrameSample(vlm, tuple(vlm[i] for i in chosen))

    def video_pixels(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Turn T frames (H, W, 3) uint8 RGB into the video tower's input (T, 3, S, S) float32, normalised."""
        return self._pixels(frames, self.video_size, RESIZE_PRESETS[self.resize_preset].video)

    def segmenter_pixels(self, frames: Sequence[NDArray[np.uint8]], stage: Stage = "propagation") -> Tensor:
        """Turn T frames (H, W, 3) uint8 RGB into the segmenter's input (T, 3, S, S) float32, normalised.

        ``stage`` says what the maps are for; it matters only where :attr:`shares_segmenter_features` is False.
        """
        return self._pixels(frames, self.segmenter_size, getattr(RESIZE_PRESETS[self.resize_preset], stage))

    def normalise(self, pixels_X3HW: Tensor) -> Tensor:
        """Normalise pixels (…, 3, H, W) float, 0…1, on whatever device they are."""
        mean, std = (pixels_X3HW.new_tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        return (pixels_X3HW - mean) / std

    def text_ids(self, expressions: str | Sequence[str]) -> BatchFeature:
        """Turn B expressions into prompts as ids.

        Returns
        -------
        BatchFeature
            ``input_ids`` (B, L) int64 and ``attention_mask`` (B, L) int64, padded on the right.

        Raises
        ------
        QueryError
            When an expression has no words or brings a reserved token.
        """
        expressions = [expressions] if isinstance(expressions, str) else expressions
        prompts = [build_prompt(e, num_st_tokens=self.num_st_tokens, style=self.prompt_style) for e in expressions]
        encoded = self.tokenizer(
            prompts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        )
        ids_BL = self._with_image_id(encoded["input_ids"])
        return BatchFeature({"input_ids": ids_BL, "attention_mask": encoded["attention_mask"]})

    def question_ids(self, question: str) -> BatchFeature:
        """Turn a question that is to be answered in words into ``input_ids`` (1, L) int64, up to the answer.

        Raises
        ------
        QueryError
            When the question has no words or brings a reserved token.
        """
        encoded = self.tokenizer(build_open_prompt(question), add_special_tokens=False, return_tensors="pt")
        return BatchFeature({"input_ids": self._with_image_id(encoded["input_ids"])})

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end an answer in words."""
        known = self.tokenizer.get_vocab()
        names = (TURN_END, self.tokenizer.eos_token, self.tokenizer.pad_token, "<|endoftext|>")
        return frozenset(known[name] for name in names if name in known)

    def words_of(self, ids: Sequence[int]) -> str:
        """Turn ids of an answer into text, without reserved tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _with_image_id(self, ids_BL: Tensor) -> Tensor:
        if self.image_token_id is None:
            return ids_BL
        own_id = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        return ids_BL.masked_fill(ids_BL == own_id, self.image_token_id)

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """Return the words that the tokenizer does not know, each once, in their order; punctuation is no word."""
        if self.tokenizer.unk_token_id is None:
            return ()
        text = normalise_expression(expression)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        unknown = (text[start:stop] for id_, (start, stop) in pairs if id_ == self.tokenizer.unk_token_id)
        return tuple(dict.fromkeys(word for word in unknown if any(map(str.isalnum, word))))

    def names_nothing(self, expression: str) -> bool:
        """Tell whether an expression has unknown words, and beside them none that could name an object."""
        unknown = self.unknown_words(expression)
        words = re.findall(r"\w+", normalise_expression(expression))
        return bool(unknown) and not set(words) - set(unknown) - _NAMELESS

    def __call__(self, frames: Sequence[NDArray[np.uint8]], text: str | Sequence[str]) -> BatchFeature:
        """Prepare a whole short video, held in memory, with its expressions.

        Returns
        -------
        BatchFeature
            ``video_pixels`` (n, 3, S, S) of the sampled frames, ``segmenter_pixels`` (T, 3, S, S) of the segmentation
            frames, ``input_ids`` and ``attention_mask`` (B, L).
        """
        sample = self.sample_frames(len(frames))
        pixels = {
            "video_pixels": self.video_pixels([frames[t] for t in sample.vlm]),
            "segmenter_pixels": self.segmenter_pixels([frames[t] for t in sample.segmentation], "prompter"),
        }
        return BatchFeature(pixels | self.text_ids(text).data)

    def _pixels(self, frames: Sequence[NDArray[np.uint8]], side: int, resample: Image.Resampling) -> Tensor:
        for frame in frames:
            if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
                raise VideoError(
                    f"A frame must be (H, W, 3) uint8; got {frame.shape} {frame.dtype}; convert it to RGB."
                )
        small = np.stack([np.asarray(Image.fromarray(frame).resize((side, side), resample)) for frame in frames])
        pixels_T3SS = (
            torch.from_numpy(small).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        )
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        return pixels_T3SS.div_(255).sub_(mean).div_(std)
