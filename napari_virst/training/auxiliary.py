"""Tasks that exist in training only: short paths for the gradient, from words to pixels and from pixels to facts.

Shape legend: B scenes, X queries, T frames, C channels, H W cells, N ST tokens, D width of the language model,
V visual tokens, O objects of a scene, K topics, A atoms of meaning, P cells of any kind, S side of the input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_virst.training.scene_lessons import ATOMS, HAPPENINGS, STILL_TOPICS, TOPICS

_FREQUENCIES = (1, 2, 4)


class Alignment(nn.Module):
    """Asks whether a ST prompt points at the cells of its object.

    Without it the only gradient to the language side passes the whole mask decoder, which is untrained too at first.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.prompt = nn.Linear(num_channels, num_channels)
        self.cell = nn.Conv2d(num_channels, num_channels, 1)
        self.place = nn.Conv2d(len(_FREQUENCIES) * 4, num_channels, 1)
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, prompts_BNC: Tensor, maps_BCHW: Tensor, target_BSS: Tensor) -> Tensor:
        """Return the binary cross-entropy of cells against the true mask's share of each cell."""
        share_BHW = F.adaptive_avg_pool2d(target_BSS[:, None], (maps_BCHW.shape[-2], maps_BCHW.shape[-1]))[:, 0]
        point_BC = self.prompt(prompts_BNC.mean(1))
        places_CHW = self.place(_waves(maps_BCHW))
        cells_BCHW = self.cell(maps_BCHW) + places_CHW
        logits_BHW = torch.einsum("bc,bchw->bhw", point_BC, cells_BCHW) / cells_BCHW.shape[1] ** 0.5 + self.bias
        # Objects cover a few percent of the cells; without the weight "nowhere" is a good answer.
        return F.binary_cross_entropy_with_logits(logits_BHW, share_BHW, pos_weight=logits_BHW.new_tensor(5.0))


def _waves(like_BCHW: Tensor) -> Tensor:
    """(1, 12, H, W): sines and cosines of y and x, so that a place can be pointed at."""
    height, width = like_BCHW.shape[-2:]
    y_HW = torch.linspace(0, torch.pi, height).to(like_BCHW)[:, None].expand(-1, width)
    x_HW = torch.linspace(0, torch.pi, width).to(like_BCHW).expand(height, -1)
    turns = [frequency * axis_HW for frequency in _FREQUENCIES for axis_HW in (y_HW, x_HW)]
    return torch.stack([wave for turn_HW in turns for wave in (turn_HW.sin(), turn_HW.cos())])[None]


def pointing_loss(logits_XV: Tensor, share_XV: Tensor) -> Tensor:
    """Return the binary cross-entropy of tokens against twice the true mask's share of each, at most 1."""
    target_XV = (2 * share_XV).clamp(max=1)
    return F.binary_cross_entropy_with_logits(logits_XV, target_XV, pos_weight=logits_XV.new_tensor(3.0))


class PathReader(nn.Module):
    """Reads the path of what is asked for off the hidden states of the ST tokens, by one layer."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden_size, 2 * _PATH_LENGTH)

    def forward(self, hidden_XND: Tensor, masks_XTSS: Tensor) -> Tensor:
        """Return the mean distance along an axis, in sides, to the centres of the true masks where there are any."""
        num_frames, side = masks_XTSS.shape[1], masks_XTSS.shape[-1]
        axis = (torch.arange(side, device=masks_XTSS.device) + 0.5) / side
        area_XT = masks_XTSS.sum((2, 3))
        y_XT = (masks_XTSS.sum(3) @ axis) / area_XT.clamp(min=1)
        x_XT = (masks_XTSS.sum(2) @ axis) / area_XT.clamp(min=1)
        stops = torch.linspace(0, _PATH_LENGTH - 1, num_frames).round().long()
        read_XT2 = self.read(hidden_XND.mean(1)).unflatten(1, (_PATH_LENGTH, 2))[:, stops] + 0.5
        off_XT = F.smooth_l1_loss(read_XT2, torch.stack([y_XT, x_XT], -1), beta=0.05, reduction="none").mean(-1)
        seen_XT = (area_XT > 0).float()
        return (off_XT * seen_XT).sum() / seen_XT.sum().clamp(min=1)


_PATH_LENGTH = 8


class TopicReader(nn.Module):
    """Reads colour, shape, size, course … of the object that a cell belongs to off its features, by one layer."""

    def __init__(self, num_channels: int, topics: tuple[str, ...]) -> None:
        super().__init__()
        self.topics = topics
        self.read = nn.Linear(num_channels, sum(TOPICS[topic] for topic in topics))

    def forward(self, cells_PC: Tensor, classes_PK: Tensor) -> Tensor:
        """Return the mean cross-entropy over the topics that happen, plus that over all others.

        ``classes_PK`` are in the order of ``TOPICS``; -1 is left out.
        """
        shown_P = (classes_PK >= 0).any(1)
        if not bool(shown_P.any()):
            return cells_PC.sum() * 0
        logits = self.read(cells_PC[shown_P]).split([TOPICS[topic] for topic in self.topics], dim=1)
        columns = [list(TOPICS).index(topic) for topic in self.topics]
        losses: dict[bool, list[Tensor]] = {False: [], True: []}
        for topic, part, column in zip(self.topics, logits, columns, strict=True):
            classes_P = classes_PK[shown_P, column]
            if bool((classes_P >= 0).any()):
                loss = F.cross_entropy(part, classes_P, _weights(topic, part), ignore_index=-1)
                losses[topic in HAPPENINGS].append(loss)
        return torch.stack([torch.stack(group).mean() for group in losses.values() if group]).sum()


_USUAL = ("change", "presence", *HAPPENINGS)
"""Topics whose class 0 says that nothing happens, as with most objects; at its true share it is the easy answer."""
_USUAL_WEIGHT = 0.15


def _weights(topic: str, like_PZ: Tensor) -> Tensor | None:
    if topic not in _USUAL:
        return None
    weights = like_PZ.new_ones(TOPICS[topic])
    weights[0] = _USUAL_WEIGHT
    return weights


class SentenceReader(nn.Module):
    """Reads what a sentence says, whatever its words, off the hidden states of the ST tokens, by one layer."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden_size, len(ATOMS))
        nn.init.constant_(self.read.bias, -4.0)  # a sentence says about three of some hundred things

    def forward(self, hidden_XND: Tensor, atoms_XA: Tensor) -> Tensor:
        """Return the binary cross-entropy, summed over the atoms, per query."""
        logits_XA = self.read(hidden_XND.mean(1))
        return F.binary_cross_entropy_with_logits(logits_XA, atoms_XA, reduction="sum") / len(atoms_XA)


def there_loss(present_X: Tensor, masks_XTSS: Tensor) -> Tensor:
    """Return the binary cross-entropy of the presence reader's logits against whether any frame shows the answer."""
    is_there_X = masks_XTSS.flatten(1).any(1).to(present_X.dtype)
    return F.binary_cross_entropy_with_logits(present_X, is_there_X)


class Auxiliary(nn.Module):
    """All of them.

    Parameters
    ----------
    num_channels, tower_size, hidden_size
        Widths of the segmenter, of the video tower and of the language model.
    """

    def __init__(self, num_channels: int, tower_size: int, hidden_size: int) -> None:
        super().__init__()
        self.alignment = Alignment(num_channels)
        self.sentence = SentenceReader(hidden_size)
        self.path = PathReader(hidden_size)
        self.picture_topics = TopicReader(num_channels, STILL_TOPICS)
        self.video_topics = TopicReader(tower_size, tuple(TOPICS))


def owner_cells(owners_PSS: Tensor, grid: int) -> Tensor:
    """Return the owner (P, grid, grid) int64 of every cell: of four points of the cell, the highest in z-order."""
    points = F.interpolate(owners_PSS[:, None].float(), size=(2 * grid, 2 * grid), mode="nearest-exact")
    return F.max_pool2d(points, 2)[:, 0].long()


def classes_of(owners_BHW: Tensor, facts_BOK: Tensor) -> Tensor:
    """Return the classes (B, H, W, K) of the object that owns each cell, -1 on background."""
    background_B1K = facts_BOK.new_full((len(facts_BOK), 1, facts_BOK.shape[-1]), -1)
    table = torch.cat([background_B1K, facts_BOK], dim=1)
    rows = owners_BHW.flatten(1)[..., None].expand(-1, -1, table.shape[-1])
    return table.gather(1, rows).unflatten(1, owners_BHW.shape[1:])
