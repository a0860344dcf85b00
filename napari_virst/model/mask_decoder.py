"""SAM 2's mask decoder with a shorter way through it on a CPU; weights and names are transformers' own.

There its time goes into some two hundred small operations. Without gradients they come to a third as many: what a
layer projects of the image is one product, to which the position code adds a fixed table, since
``W (x + p) = W x + W p``; candidate masks that would be thrown away are not decoded.

Shape legend: B objects, N cells of the coarse map, H W the same, h w pixels of low-resolution masks (4H, 4W), T tokens,
C channels, E channels inside an attention, K heads, M candidate masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMaskDecoder

from napari_virst.model.derived import Derived, is_plain

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Sam2VideoMaskDecoderConfig


class MaskDecoder(Sam2VideoMaskDecoder):
    """The same layers; the inherited code runs on a GPU, in half precision, with gradients, and for single masks."""

    def __init__(self, config: Sam2VideoMaskDecoderConfig) -> None:
        super().__init__(config)
        self._derived = Derived()

    def forward(
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        high_resolution_features: list[Tensor],
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mask logits (B, 1, M, h, w), their IoUs (B, 1, M), mask tokens (B, 1, M, C), scores (B, 1, 1)."""
        given = (image_embeddings, image_positional_embeddings, sparse_prompt_embeddings, dense_prompt_embeddings)
        one_prompt = sparse_prompt_embeddings.shape[1] == 1
        if kwargs or not multimask_output or not one_prompt or not is_plain(image_embeddings):
            return super().forward(*given, multimask_output, high_resolution_features, **kwargs)
        image_BCHW = image_embeddings + dense_prompt_embeddings
        tokens_BTC, image_BNC = self._attend(
            self._tokens(sparse_prompt_embeddings[:, 0]),
            image_BCHW.flatten(2).transpose(1, 2),
            image_positional_embeddings[0].flatten(1).T,
        )
        upscaled_BEhw = self._upscale(image_BNC.transpose(1, 2).view(image_BCHW.shape), high_resolution_features)
        chosen_BMC = tokens_BTC[:, 3 : 2 + self.num_mask_tokens]
        masks_BMX = self._weights_of_masks(chosen_BMC) @ upscaled_BEhw.flatten(2)
        iou_BM = self.iou_prediction_head(tokens_BTC[:, 1])[:, 1:]
        score_B1 = self.pred_obj_score_head(tokens_BTC[:, 0])
        masks_BMhw = masks_BMX.unflatten(-1, upscaled_BEhw.shape[-2:])
        return masks_BMhw[:, None], iou_BM[:, None], chosen_BMC[:, None], score_B1[:, None]

    def _tokens(self, prompts_BTC: Tensor) -> Tensor:
        own_TC = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        return torch.cat([own_TC.expand(len(prompts_BTC), -1, -1), prompts_BTC], 1)

    def _attend(self, given_BTC: Tensor, image_BNC: Tensor, position_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image look at each other, as transformers' two-way transformer does."""
        transformer, tokens_BTC = self.transformer, given_BTC
        for number, layer in enumerate(transformer.layers):
            attention = layer.self_attn
            if layer.skip_first_layer_pe:
                tokens_BTC = _attention(attention, tokens_BTC, tokens_BTC, tokens_BTC)
            else:
                placed_BTC = tokens_BTC + given_BTC
                tokens_BTC = tokens_BTC + _attention(attention, placed_BTC, placed_BTC, tokens_BTC)
            tokens_BTC = layer.layer_norm1(tokens_BTC)
            to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            parts = [to_image.k_proj, to_tokens.q_proj], [to_image.v_proj]
            key_BNE, query_BNE, value_BNE = self._project(f"layer {number}", *parts, image_BNC, position_NC)
            read_BTE = _weigh(to_image, to_image.q_proj(tokens_BTC + given_BTC), key_BNE, value_BNE)
            tokens_BTC = layer.layer_norm2(tokens_BTC + to_image.o_proj(read_BTE))
            tokens_BTC = layer.layer_norm3(tokens_BTC + layer.mlp(tokens_BTC))
            key_BTE, value_BTE = to_tokens.k_proj(tokens_BTC + given_BTC), to_tokens.v_proj(tokens_BTC)
            read_BNE = _weigh(to_tokens, query_BNE, key_BTE, value_BTE)
            image_BNC = layer.layer_norm4(image_BNC + to_tokens.o_proj(read_BNE))
        last = transformer.final_attn_token_to_image
        key_BNE, value_BNE = self._project("last", [last.k_proj], [last.v_proj], image_BNC, position_NC)
        read_BTE = _weigh(last, last.q_proj(tokens_BTC + given_BTC), key_BNE, value_BNE)
        return transformer.layer_norm_final_attn(tokens_BTC + last.o_proj(read_BTE)), image_BNC

    def _project(
        self, name: str, placed: list[nn.Module], plain: list[nn.Module], image_BNC: Tensor, position_NC: Tensor
    ) -> tuple[Tensor, ...]:
        """Apply linear layers to the image, the ``placed`` ones to image and position, in one product."""
        layers: list[Any] = [*placed, *plain]

        def side_by_side() -> tuple[Tensor, Tensor]:
            """Weights of all layers as one, and what position and biases add to every pixel."""
            table_NE = torch.cat(
                [layer(position_NC) for layer in placed]
                + [layer.bias.expand(len(position_NC), -1) for layer in layers[len(placed) :]],
                1,
            )
            return torch.cat([layer.weight for layer in layers]).T.contiguous(), table_NE

        weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        weight_CE, table_NE = self._derived.fetch(name, [*weights, position_NC], side_by_side, len(position_NC))
        batch = len(image_BNC)
        projected_BNE = torch.baddbmm(table_NE.expand(batch, -1, -1), image_BNC, weight_CE.expand(batch, -1, -1))
        return projected_BNE.split([layer.bias.shape[0] for layer in layers], -1)

    def _upscale(self, image_BCHW: Tensor, skips: list[Tensor]) -> Tensor:
        fine_BEhw, middle_BEXX = skips
        upscaled = self.upscale_layer_norm(self.upscale_conv1(image_BCHW).add_(middle_BEXX))
        upscaled_BEhw: Tensor = F.gelu(self.upscale_conv2(F.gelu(upscaled)).add_(fine_BEhw))
        return upscaled_BEhw

    def _weights_of_masks(self, tokens_BMC: Tensor) -> Tensor:
        """(B, M, E): how every candidate mask weighs the upscaled channels; the candidates' networks as one batch."""
        networks = list(self.output_hypernetworks_mlps)[1:]
        depths = list(zip(*([n.proj_in, *n.layers, n.proj_out] for n in networks), strict=True))

        def stack() -> list[tuple[Tensor, Tensor]]:
            return [
                (torch.stack([x.weight.T for x in linears]), torch.stack([x.bias for x in linears])[:, None])
                for linears in depths
            ]

        weights = [tensor for linears in depths for x in linears for tensor in (x.weight, x.bias)]
        x_MBC = tokens_BMC.transpose(0, 1)
        for depth, (weight_MCE, bias_M1E) in enumerate(self._derived.fetch("masks", weights, stack)):
            x_MBC = torch.baddbmm(bias_M1E, x_MBC.relu() if depth else x_MBC, weight_MCE)
        return x_MBC.transpose(0, 1)


def _attention(
    attention: Any,  # noqa: ANN401
    query_BTC: Tensor,
    key_BTC: Tensor,
    value_BTC: Tensor,
) -> Tensor:
    """One of transformers' attention layers."""
    given = attention.q_proj(query_BTC), attention.k_proj(key_BTC), attention.v_proj(value_BTC)
    found_BTC: Tensor = attention.o_proj(_weigh(attention, *given))
    return found_BTC


def _weigh(attention: Any, query_BTE: Tensor, key_BNE: Tensor, value_BNE: Tensor) -> Tensor:  # noqa: ANN401
    """Split projected tokens into heads, and return the mean of the values, weighted by how well keys fit queries."""
    heads = attention.num_attention_heads, attention.head_dim
    query, key, value = (x.unflatten(-1, heads).transpose(1, 2) for x in (query_BTE, key_BNE, value_BNE))
    read = F.scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return read.transpose(1, 2).flatten(2)
