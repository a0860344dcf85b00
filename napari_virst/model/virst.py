"""VIRST: a video-language model and SAM 2.1 in one network, readable top to bottom.

::

    clips ─▶ video tower ─▶ merging, projector ─▶ visual tokens ─┐
    query ─▶ ids ────────────────────────────────────────────────┤
    frames ─▶ segmenter.encode ─▶ coarse maps ─▶ initial fusion ─┴▶ Qwen2 ─▶ hidden states at [ST] rows
                                       └──────────────────▶ second fusion ◀──┘
                                                              └▶ ST prompts of every segmentation frame
    ST prompts at anchor frames ─▶ segmenter.decode_prompted ─▶ anchor memory ─▶ every other frame

Shape legend: B queries, n clips, f frames of a clip, S side of the tower's input, V visual tokens, D width of the
language model, L ids, R rows of the expanded prompt, N ST tokens, T segmentation frames, C channels of the segmenter,
H W cells of its coarse map, W words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention

from napari_virst.model.config import VirstConfig
from napari_virst.model.fusion import InitialFusion, Pointer, PresenceReader, build_prompter
from napari_virst.model.language import LanguageModel, take_rows
from napari_virst.model.segmenter import Segmenter
from napari_virst.model.video_tower import Projector, VideoTower

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any


@dataclass(frozen=True)
class Grounding:
    """What language says of the segmentation frames."""

    prompts_BNTC: Tensor
    """ST prompts: N sparse prompt tokens for each of T frames."""
    frame_scores_BT: Tensor
    """Share of the second fusion's attention that falls on each frame; the published model does not use it."""
    hidden_BND: Tensor
    """Hidden states of the ST tokens, from which the prompts were made."""
    rows_BRD: Tensor
    """Hidden states of the whole prompt, the visual tokens in the placeholder's place."""
    pointed_BV: Tensor | None = None
    """Logits of each visual token showing what is meant; None without a pointer."""
    present_B: Tensor | None = None
    """Logits of the video showing what is meant on any frame; None without a presence reader."""


class VirstModel(PreTrainedModel):
    """The whole network.

    ``encode_clips`` does not depend on the query and ``segmenter.encode`` neither on query nor on corrections, so both
    are computed once per video and shared.

    Parameters
    ----------
    config
        ``VirstConfig.compact()`` and ``VirstConfig.official()`` are two settings of these same classes.
    """

    config_class = VirstConfig
    base_model_prefix = "virst"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    # SAM's random Fourier matrix; see _apply for casts after loading.
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["positional_embedding"]

    def __init__(self, config: VirstConfig) -> None:
        super().__init__(config)
        self.video_tower = VideoTower(config.video_config)
        self.projector = Projector(config.video_config, config.text_config.hidden_size)
        self.language = LanguageModel(
            config.text_config, st_token_id=config.st_token_id, image_token_id=config.image_token_id
        )
        widths = config.text_config.hidden_size, config.segmenter_config.num_channels
        self.initial_fusion = InitialFusion(config.st_fusion_config, *widths)
        self.pointer = Pointer(widths[0]) if config.st_fusion_config.has_pointer else None
        self.presence_reader = PresenceReader(widths[0]) if config.st_fusion_config.has_presence_reader else None
        self.prompter = build_prompter(config.st_fusion_config, *widths)
        self.segmenter = Segmenter(config.segmenter_config)
        self.post_init()

    def encode_clips(self, pixels_BT3SS: Tensor) -> Tensor:
        """Turn sampled frames into visual tokens.

        Parameters
        ----------
        pixels_BT3SS
            (B, T, 3, S, S) float, normalised; T a multiple of the clip length (short videos repeat the last frame).

        Returns
        -------
        (B, V, D): the tokens of all clips in order.
        """
        batch, num_frames = pixels_BT3SS.shape[:2]
        per_clip = self.config.video_config.num_frames_per_clip
        if num_frames % per_clip:
            raise ValueError(
                f"The number of sampled frames must be a multiple of {per_clip}; got {num_frames}; repeat the last one."
            )
        clips = pixels_BT3SS.reshape(batch * num_frames // per_clip, per_clip, *pixels_BT3SS.shape[2:])
        side = self.config.video_config.image_size
        if clips.shape[-1] != side:  # training draws scenes at several sizes
            resized = F.interpolate(clips.flatten(0, 1), size=(side, side), mode="bilinear", antialias=True)
            clips = resized.unflatten(0, clips.shape[:2])
        tokens_XVD = self.projector(self.video_tower(clips))
        return tokens_XVD.reshape(batch, -1, tokens_XVD.shape[-1])

    def ground(
        self,
        visual_BVD: Tensor,
        ids_BL: Tensor,
        attention_mask_BL: Tensor | None,
        maps_BTCHW: Tensor,
        *,
        use_initial_fusion: bool | None = None,
    ) -> Grounding:
        """Turn a query into ST prompts for every segmentation frame.

        Parameters
        ----------
        visual_BVD
            Visual tokens of :meth:`encode_clips`.
        ids_BL
            Token ids with one image placeholder and N ST tokens, int64; padded on the right.
        attention_mask_BL
            1 for real ids, 0 for padding; None where nothing is padded.
        maps_BTCHW
            Coarse maps of the segmenter for the T segmentation frames, in order of time.
        use_initial_fusion
            Whether the first fusion runs; as the configuration says where None.
        """
        fused_BND = None
        if self.config.st_fusion_config.use_initial_fusion if use_initial_fusion is None else use_initial_fusion:
            fused_BND = self.initial_fusion(self.language.st_embeddings(ids_BL), maps_BTCHW)
        rows_BRD = self.language(ids_BL, visual_BVD, fused_BND, attention_mask_BL, return_all=True)
        hidden_BND = take_rows(rows_BRD, self.language.expanded_st_rows(ids_BL, visual_BVD.shape[1]))
        pointed_BV = None
        if self.pointer is not None:
            hidden_BND, pointed_BV = self.pointer(hidden_BND, visual_BVD)
        present_B = None if self.presence_reader is None else self.presence_reader(hidden_BND, pointed_BV)
        prompts_BNTC, scores_BT = self.prompter(hidden_BND, maps_BTCHW)
        return Grounding(prompts_BNTC, scores_BT, hidden_BND, rows_BRD, pointed_BV, present_B)

    def explain(
        self,
        visual_1VD: Tensor,
        ids_1L: Tensor,
        head_WD: Tensor,
        stop_ids: Collection[int],
        max_new_tokens: int = 96,
    ) -> list[int]:
        """Answer a question in words, as ids; the vocabulary head is handed in, since nothing else needs it.

        Parameters
        ----------
        visual_1VD
            Visual tokens of :meth:`encode_clips`.
        ids_1L
            A question up to where the answer begins (``VirstProcessor.question_ids``).
        head_WD
            The vocabulary head, W words, on the model's device.
        stop_ids
            Ids that end the answer.
        max_new_tokens
            Longest answer.
        """
        return self.language.answer(ids_1L, visual_1VD, head_WD, stop_ids, max_new_tokens)

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Ground a query on every frame of one clip and decode each: (B, T, h, w) mask logits.

        A convenience for short clips at one size; long videos are run by :mod:`napari_virst.engine.predictor`.
        """
        batch, num_frames = pixel_values.shape[:2]
        features = self.segmenter.encode(pixel_values.flatten(0, 1))
        maps_BTCHW = features.coarse_BCHW.unflatten(0, (batch, num_frames))
        grounding = self.ground(self.encode_clips(pixel_values), input_ids, attention_mask, maps_BTCHW)
        prompts_XNC = grounding.prompts_BNTC.transpose(1, 2).flatten(0, 1)
        return self.segmenter.decode_prompted(features, prompts_XNC).low_res_B1hw.unflatten(0, (batch, num_frames))[
            :, :, 0
        ]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> VirstModel:
        """Move and cast as any module does, but leave the fixed tables (all buffers are such) in full precision.

        Rounded to bfloat16, the random Fourier matrix and the rotary frequencies put things in other places.
        """
        tables = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, table in tables.items():
            rounded = self.get_buffer(name)
            if rounded.dtype != table.dtype and rounded.dtype in (torch.bfloat16, torch.float16):
                owner, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(owner), leaf, table.to(rounded.device))
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Linear and embedding layers of our own rooms; transformers' submodules initialise themselves.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Sam2VideoMemoryAttention):
            # Loading leaves tables that are in no file as they fell from memory; a fresh module knows them.
            with torch.device("cpu"):
                fresh = dict(type(module)(module.config).named_buffers())
            for name, table in module.named_buffers():
                table.copy_(fresh[name])
