"""What becomes of each cell of a clip in all other frames: a trace of colour, told to the video tower's tokens.

Shape legend: B clips, T frames of a clip, L of them, S side in pixels, R side in points, P points (R · R), N cells of a
frame, Q points of a cell, F features of a trace, C channels of the tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_virst.model.config import VideoTowerConfig

_POINTS_PER_CELL = 3
_PLAIN = 0.3
"""Length of a colour against the clip's mean, in standard deviations of a pixel, below which it counts as ground."""
_CHOICE = 4.0
"""How much more the points of a cell that differ from the ground say what the cell shows."""
_LIKENESS_POWER = 8
_REACH_POINTS = 2.0
"""Standard deviation of the window in which a colour is looked for again, from one frame to the next."""
_VIEW_POINTS = 2.5
"""Standard deviation of the window in which it is then measured."""
_WAY_SCALE, _AMOUNT_SCALE, _STRENGTH_SCALE, _SPREAD_SCALE = 30, 3, 5, 3
"""With these, what is told has a standard deviation of 0.3 to 0.8 on the objects of 800 scenes."""
_PER_FRAME = 6
_AT_HOME = 3
_LIMIT = 5.0


@dataclass(frozen=True)
class _Sight:
    """What was found of some cells' colours in one other frame each."""

    place_BLN2: Tensor
    """(y, x) in points."""
    amount_BLN: Tensor
    """How many points are alike."""
    strength_BLN: Tensor
    """How far their colour is from the ground."""
    spread_BLN: Tensor
    """Mean square distance from their middle, in points squared."""


@dataclass(frozen=True)
class _Points:
    """The clip as a coarse picture of colours against its mean."""

    hue_BTP3: Tensor
    """Direction of the colour; short where it is plain ground."""
    strength_BTP: Tensor
    axis_R: Tensor


class TraceCue(nn.Module):
    """Follows each cell's colour through the clip, frame by frame, and tells the token what became of it.

    Not in the published tower. A small one of 8 × 8 cells did not learn to see growth or fading: its tokens told of
    three in 758 objects that they change at all. With the trace added, and nothing else learned anew, one layer named
    growing in 0.82, shrinking in 0.68, fading in 1.0 and blinking in 0.87 of objects it had not seen, and the course in
    0.64 to 0.80 (without: 0.39 to 0.49).

    A cell is known by the colour in it that differs most from the mean of the clip. Points of like colour near the last
    place are looked for in the next frame, and so on to both ends of the clip.
    """

    def __init__(self, config: VideoTowerConfig) -> None:
        super().__init__()
        self.grid = config.patch_grid
        num_features = _PER_FRAME * 2 * (config.num_frames_per_clip - 1) + _AT_HOME
        self.read = nn.Linear(num_features, config.hidden_size)
        self.tell = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, pixels_BT3SS: Tensor) -> Tensor:
        """Return (B, T · N, C), to be added to the finished tokens of the clips."""
        features_BTNF = self.trace(pixels_BT3SS).flatten(1, 2)
        told: Tensor = self.tell(F.gelu(self.read(features_BTNF.to(self.read.weight.dtype))))
        return told

    @torch.no_grad()
    def trace(self, pixels_BT3SS: Tensor) -> Tensor:
        """Return (B, T, N, F) float32: for each step onward, then back, what was found; then what is found at home.

        Found are: the way there (y, x), the logarithms of amount, strength and spread against those at home, and 1;
        all 0 beyond the ends of the clip.
        """
        points, hue_BTN3, home_BTN2, own_BTN = self._look(pixels_BT3SS.float())
        num_frames = pixels_BT3SS.shape[1]
        at_home = _sight(points, hue_BTN3, home_BTN2, slice(None))
        found = []
        for sign in (1, -1):
            sight, hue = at_home, hue_BTN3
            for step in range(1, num_frames):
                # Rows are the frames from which so many steps stay inside the clip.
                keep = slice(None, -1) if sign > 0 else slice(1, None)
                hue = hue[:, keep]
                seen = slice(step, None) if sign > 0 else slice(None, -step)
                start = slice(None, -step) if sign > 0 else slice(step, None)
                sight = _sight(points, hue, sight.place_BLN2[:, keep], seen)
                pad = (0, step) if sign > 0 else (step, 0)
                found.append(F.pad(_against(sight, at_home, start, len(points.axis_R)), (0, 0, 0, 0, *pad)))
        home = torch.stack([_log(at_home.amount_BLN), own_BTN, _log(at_home.spread_BLN)], -1)
        return torch.cat([*found, home], -1).clamp(-_LIMIT, _LIMIT)

    def _look(self, pixels_BT3SS: Tensor) -> tuple[_Points, Tensor, Tensor, Tensor]:
        """Return the clip as points; of its cells hue (B, T, N, 3), place (B, T, N, 2) and strength (B, T, N)."""
        shape, side = pixels_BT3SS.shape[:2], self.grid * _POINTS_PER_CELL
        colour = F.adaptive_avg_pool2d(pixels_BT3SS.flatten(0, 1), side).unflatten(0, shape)
        colour = (colour - colour.mean((1, 3, 4), keepdim=True)).flatten(0, 1)
        axis_R = torch.arange(side, device=colour.device, dtype=colour.dtype) + 0.5
        strength_BTP = colour.norm(dim=1).flatten(1).unflatten(0, shape)
        colour_BTP3 = colour.flatten(2).transpose(1, 2).unflatten(0, shape)
        points = _Points(_hue(colour_BTP3), strength_BTP, axis_R)
        cells_3QN = F.unfold(colour, _POINTS_PER_CELL, stride=_POINTS_PER_CELL).unflatten(1, (3, -1))
        share_1QN = (_CHOICE * cells_3QN.norm(dim=1, keepdim=True)).softmax(2)
        own_BTN3 = (cells_3QN * share_1QN).sum(2).transpose(1, 2).unflatten(0, shape)
        places = torch.cartesian_prod(axis_R, axis_R).T.reshape(1, 2, side, side)
        places_2QN = F.unfold(places, _POINTS_PER_CELL, stride=_POINTS_PER_CELL).unflatten(1, (2, -1))
        home_BTN2 = (places_2QN * share_1QN).sum(2).transpose(1, 2).unflatten(0, shape)
        return points, _hue(own_BTN3), home_BTN2, own_BTN3.norm(dim=-1)


def _hue(colour: Tensor) -> Tensor:
    return colour / (colour.norm(dim=-1, keepdim=True) + _PLAIN)


def _sight(points: _Points, hue_BLN3: Tensor, near_BLN2: Tensor, frames: slice) -> _Sight:
    """Look for colours near places in as many frames, first for where they are, then for what they are like."""
    alike_BLNP = (hue_BLN3 @ points.hue_BTP3[:, frames].transpose(-1, -2)).clamp(min=0) ** _LIKENESS_POWER
    alike = alike_BLNP.unflatten(-1, (len(points.axis_R), -1))
    moments = _moments(alike, points.axis_R, near_BLN2, _REACH_POINTS)
    amount = moments[..., 0, 0]
    place = torch.stack([moments[..., 1, 0], moments[..., 0, 1]], -1)
    # Where little is found the last place stays.
    place_BLN2 = near_BLN2 + place / (amount + 0.5)[..., None]
    moments = _moments(alike, points.axis_R, place_BLN2, _VIEW_POINTS)
    amount = moments[..., 0, 0]
    off = (moments[..., 1, 0].square() + moments[..., 0, 1].square()) / (amount + 1e-3).square()
    spread = (moments[..., 2, 0] + moments[..., 0, 2]) / (amount + 1e-3) - off
    strong = (alike_BLNP * points.strength_BTP[:, frames, None]).unflatten(-1, (len(points.axis_R), -1))
    strength = _moments(strong, points.axis_R, place_BLN2, _VIEW_POINTS)[..., 0, 0] / (amount + 1e-3)
    return _Sight(place_BLN2, amount, strength, spread.clamp(min=0))


def _moments(weights: Tensor, axis_R: Tensor, centre_BLN2: Tensor, deviation: float) -> Tensor:
    """Moments (B, L, N, 3, 3) of orders 0, 1, 2 in y and x of weights (B, L, N, R, R), in a Gaussian window."""
    off_BLN2R = axis_R - centre_BLN2[..., None]
    window = torch.exp(-off_BLN2R.square() / (2 * deviation**2))
    powers = torch.stack([window, window * off_BLN2R, window * off_BLN2R.square()], -2)
    y_BLN3R, x_BLN3R = powers.unbind(-3)
    return y_BLN3R @ (weights @ x_BLN3R.transpose(-1, -2))


def _against(sight: _Sight, home: _Sight, start: slice, side: int) -> Tensor:
    """(B, L, N, 6): a sight against that at home in the frames the traces started from."""
    way = (sight.place_BLN2 - home.place_BLN2[:, start]) * (_WAY_SCALE / side)
    logs = [
        _AMOUNT_SCALE * (_log(sight.amount_BLN) - _log(home.amount_BLN[:, start])),
        _STRENGTH_SCALE * (_log(sight.strength_BLN) - _log(home.strength_BLN[:, start])),
        _SPREAD_SCALE * (_log(sight.spread_BLN) - _log(home.spread_BLN[:, start])),
    ]
    return torch.stack([*way.unbind(-1), *logs, torch.ones_like(logs[0])], -1)


def _log(value: Tensor) -> Tensor:
    return (value + 0.5).log()
