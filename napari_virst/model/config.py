"""Sizes and switches of the whole network; `official` and `compact` are two settings of the same classes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from transformers import AutoConfig, Qwen2Config
from transformers.configuration_utils import PreTrainedConfig

from napari_virst.errors import InputError
from napari_virst.model.segmenter_config import SegmenterConfig

PromptStyle = Literal["chat", "compact"]
InferencePreset = Literal["default", "reference"]
SecondFusion = Literal["attention", "mlp", "none"]


class VideoTowerConfig(PreTrainedConfig):
    """Sizes of :class:`~napari_virst.model.video_tower.VideoTower` and of the token merging behind it.

    Parameters
    ----------
    image_size
        Side in pixels of the square frames it reads; a multiple of ``patch_size``.
    patch_size
        Side of a patch in pixels; one patch is one token.
    hidden_size
        Channels of a token.
    num_hidden_layers
        Blocks that are run. The published tower has 24 and is read after the 23rd.
    num_attention_heads
        Heads of the attention; also the number of chunks over which the merging averages a token.
    mlp_ratio
        Hidden channels of the MLP over ``hidden_size``.
    num_frames_per_clip
        Consecutive frames that attend to each other.
    position_grid
        Side in cells of the grid on which the position table is defined before it is resized to the patch grid.
    layer_norm_eps, final_layer_norm_eps
        Epsilon of the layer norms in the blocks, and of the one after them.
    num_tokens_per_clip
        Tokens that are left of a clip after merging.
    motion_key_dim
        Channels by which cells of neighbouring frames are compared to tell tokens of motion; 0, as published: not told.
    has_place_cue
        Whether tokens are told where and when they were before they are merged; False, as published.
    has_trace_cue
        Whether tokens are told what becomes of their colour in the other frames (``trace_cue.TraceCue``); False, as
        published.
    """

    model_type = "virst_video_tower"

    def __init__(
        self,
        *,
        image_size: int = 448,
        patch_size: int = 16,
        hidden_size: int = 1024,
        num_hidden_layers: int = 23,
        num_attention_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_frames_per_clip: int = 4,
        position_grid: int = 14,
        layer_norm_eps: float = 1e-6,
        final_layer_norm_eps: float = 1e-12,
        num_tokens_per_clip: int = 64,
        motion_key_dim: int = 0,
        has_place_cue: bool = False,
        has_trace_cue: bool = False,
        **kwargs: Any,
    ) -> None:
        if image_size % patch_size:
            raise InputError(
                f"image_size must be a multiple of patch_size={patch_size}; got {image_size}; change one of them."
            )
        self.image_size = image_size
        self.patch_size = patch_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.mlp_ratio = mlp_ratio
        self.num_frames_per_clip = num_frames_per_clip
        self.position_grid = position_grid
        self.layer_norm_eps = layer_norm_eps
        self.final_layer_norm_eps = final_layer_norm_eps
        self.num_tokens_per_clip = num_tokens_per_clip
        self.motion_key_dim = motion_key_dim
        self.has_place_cue = has_place_cue
        self.has_trace_cue = has_trace_cue
        super().__init__(**kwargs)

    @property
    def patch_grid(self) -> int:
        """Patches along one side of a frame."""
        return self.image_size // self.patch_size


class FusionConfig(PreTrainedConfig):
    """Sizes of ST-Fusion: :class:`~napari_virst.model.fusion.InitialFusion` and ``Prompter``.

    Parameters
    ----------
    num_st_tokens
        ST tokens at the end of every prompt.
    num_downsamples
        Stride-2 convolutions between the segmenter's map and the tokens that fusion reads.
    num_prompter_layers, num_prompter_heads
        Depth and heads of the second fusion.
    num_initial_heads
        Heads of the first fusion.
    use_initial_fusion
        Whether the first fusion runs. The published evaluation scripts leave it off.
    feed_forward_ratio
        Hidden channels of the second fusion's MLP over its width.
    initial_gate
        Start value of the first fusion's gate. 0 leaves the embeddings untouched at first, as finetuning of a trained
        language model wants; from scratch it would also stop every gradient behind the gate, so take 0.1 there.
    second_fusion
        What makes prompts of the ST tokens' hidden states: ``"attention"`` to the frames, as published; for comparison
        ``"mlp"``, which sees no frame, and ``"none"``, a projection.
    has_pointer
        Whether the finished hidden states read the visual tokens once more (``fusion.Pointer``); False, as published.
    has_presence_reader
        Whether the language side itself says if the video shows what is asked for (``fusion.PresenceReader``); False,
        as published.
    """

    model_type = "virst_fusion"

    def __init__(
        self,
        *,
        num_st_tokens: int = 10,
        num_downsamples: int = 3,
        num_prompter_layers: int = 2,
        num_prompter_heads: int = 8,
        num_initial_heads: int = 8,
        use_initial_fusion: bool = False,
        feed_forward_ratio: int = 4,
        initial_gate: float = 0.0,
        second_fusion: SecondFusion = "attention",
        has_pointer: bool = False,
        has_presence_reader: bool = False,
        **kwargs: Any,
    ) -> None:
        if second_fusion not in get_args(SecondFusion):
            raise InputError(f'second_fusion must be one of {get_args(SecondFusion)}; got "{second_fusion}".')
        self.num_st_tokens = num_st_tokens
        self.num_downsamples = num_downsamples
        self.num_prompter_layers = num_prompter_layers
        self.num_prompter_heads = num_prompter_heads
        self.num_initial_heads = num_initial_heads
        self.use_initial_fusion = use_initial_fusion
        self.feed_forward_ratio = feed_forward_ratio
        self.initial_gate = initial_gate
        self.second_fusion = second_fusion
        self.has_pointer = has_pointer
        self.has_presence_reader = has_presence_reader
        super().__init__(**kwargs)


def qwen2_config(*, rope_theta: float = 1_000_000.0, **sizes: Any) -> Qwen2Config:
    """Return a Qwen2 configuration whose rotary base is written down.

    Left out, transformers 5 silently takes a base of 10 000, while Qwen2 was trained with 1 000 000.
    """
    return Qwen2Config(
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta}, use_sliding_window=False, **sizes
    )


class VirstConfig(PreTrainedConfig):
    """Configuration of :class:`~napari_virst.model.virst.VirstModel`.

    Parameters
    ----------
    video_config, text_config, st_fusion_config, segmenter_config
        The parts, as configurations or as the dictionaries they are saved as; the published sizes where left out.
        (Not ``fusion_config``: transformers reads that name itself while it loads a model.)
    st_token_id
        Id of the ST token (``[SEG]``) in the tokenizer.
    image_token_id
        Id that stands in the prompt for all visual tokens; may lie outside the vocabulary.
    prompt_style
        ``"chat"``: the published conversation. ``"compact"``: placeholder, words, ST tokens, nothing else.
    num_vlm_frames
        Most frames of a video that the language side sees.
    num_segmentation_frames
        Most of those that fusion and the prompter see too.
    num_anchors
        Model anchors spread over the segmentation frames; a quarter of them where None, as published.
    max_anchors
        Anchors that condition one frame (α of the paper).
    num_fifo_frames
        Recent frames that condition one frame (P of the paper).
    inference_preset
        How the model is run unless told otherwise. ``"default"``: every frame is encoded once, objects are followed
        both ways. ``"reference"``: as the published code does.
    """

    model_type = "virst"
    sub_configs: ClassVar[dict[str, type]] = {
        "video_config": VideoTowerConfig,
        "text_config": Qwen2Config,
        "st_fusion_config": FusionConfig,
        "segmenter_config": SegmenterConfig,
    }

    def __init__(
        self,
        *,
        video_config: VideoTowerConfig | dict[str, Any] | None = None,
        text_config: Qwen2Config | dict[str, Any] | None = None,
        st_fusion_config: FusionConfig | dict[str, Any] | None = None,
        segmenter_config: SegmenterConfig | dict[str, Any] | None = None,
        st_token_id: int = 151646,
        image_token_id: int = -200,
        prompt_style: PromptStyle = "chat",
        num_vlm_frames: int = 64,
        num_segmentation_frames: int = 32,
        num_anchors: int | None = None,
        max_anchors: int = 3,
        num_fifo_frames: int = 6,
        inference_preset: InferencePreset = "default",
        **kwargs: Any,
    ) -> None:
        self.video_config = _part(VideoTowerConfig, video_config)
        self.text_config = official_text_config() if text_config is None else _part(Qwen2Config, text_config)
        self.st_fusion_config = _part(FusionConfig, st_fusion_config)
        self.segmenter_config = _part(SegmenterConfig, segmenter_config)
        self.st_token_id = st_token_id
        self.image_token_id = image_token_id
        self.prompt_style = prompt_style
        self.num_vlm_frames = num_vlm_frames
        self.num_segmentation_frames = num_segmentation_frames
        self.num_anchors = num_anchors
        self.max_anchors = max_anchors
        self.num_fifo_frames = num_fifo_frames
        self.inference_preset = inference_preset
        super().__init__(**kwargs)

    @classmethod
    def official(cls) -> VirstConfig:
        """Return the sizes of the published model (VideoChat-Flash 7B and SAM 2.1 large)."""
        return cls(segmenter_config=official_segmenter_config())

    @classmethod
    def compact(cls, *, vocab_size: int, st_token_id: int, image_token_id: int, pad_token_id: int = 0) -> VirstConfig:
        """Return the sizes of the bundled model: about seven million parameters, made for two CPU cores."""
        text = qwen2_config(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            pad_token_id=pad_token_id,
            bos_token_id=None,
            eos_token_id=None,
        )
        return cls(
            video_config=VideoTowerConfig(
                image_size=96,
                patch_size=12,
                hidden_size=128,
                num_hidden_layers=5,
                num_attention_heads=4,
                num_frames_per_clip=8,
                num_tokens_per_clip=96,
                motion_key_dim=32,
                has_place_cue=True,
                has_trace_cue=True,
            ),
            text_config=text,
            st_fusion_config=FusionConfig(
                num_st_tokens=4,
                num_downsamples=1,
                num_prompter_heads=4,
                num_initial_heads=4,
                use_initial_fusion=True,
                initial_gate=0.1,
                has_pointer=True,
                has_presence_reader=True,
            ),
            segmenter_config=SegmenterConfig.compact(),
            st_token_id=st_token_id,
            image_token_id=image_token_id,
            prompt_style="compact",
            num_vlm_frames=8,
            num_segmentation_frames=4,
            max_anchors=3,
            num_fifo_frames=2,
        )


def official_text_config() -> Qwen2Config:
    """Return Qwen2-7B with the vocabulary of the published checkpoint (151 646 tokens and ``[SEG]``)."""
    return qwen2_config(
        vocab_size=151647,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    )


def official_segmenter_config() -> SegmenterConfig:
    """Return SAM 2.1 large; what is not named here is transformers' default for SAM 2.1."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 144,
        "num_attention_heads": 2,
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "blocks_per_stage": [2, 6, 36, 4],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [1152, 576, 288, 144],
    }
    sam2 = {
        "vision_config": vision,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0},
        "max_cond_frame_num": 3,
    }
    return SegmenterConfig(sam2_config=sam2)


def _part(kind: type, part: Any) -> Any:  # noqa: ANN401 - any of the four configurations
    return part if isinstance(part, kind) else kind(**(part or {}))


AutoConfig.register("virst", VirstConfig, exist_ok=True)
