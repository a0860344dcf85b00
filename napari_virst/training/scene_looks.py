"""How the objects of a scene and the background behind them look: fills, textures, rims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_virst.training.scene_animals import plan_animal_look, plan_silhouettes
from napari_virst.training.scene_objects import COLOURS, RGB, Background

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_FLUORESCENT = ("red", "green", "blue", "cyan", "purple", "yellow")
_FLUORESCENT_RGB: dict[str, RGB] = {
    "red": (255, 40, 30),
    "green": (40, 255, 60),
    "blue": (50, 80, 255),
    "cyan": (40, 240, 255),
    "purple": (200, 50, 255),
    "yellow": (255, 240, 40),
}
_GOOD_CONTRAST = 110.0
"""Distance of fill and background in RGB from which on both may be textured."""
_LEVELLED = {"bright": (0.85, 1.0), "dark": (0.22, 0.34), "middle": (0.5, 0.62)}

Fill = tuple["str | None", "float | None", RGB]
"""Colour word, level and RGB, 0…255, of an object; see ``SceneObject``."""


def plan_fills(rng: Random, num: int, style: str, kind: str) -> list[Fill]:
    """Draw fills that words of colour or of brightness can tell apart, one for each of some objects."""
    if style == "geometric":
        pool = rng.sample(sorted(COLOURS), rng.choice((3, 4, 5) if kind == "colour" else (2, 2, 3, 3, 4, 5)))
        return [(word, None, _varied(rng, COLOURS[word])) for word in (rng.choice(pool) for _ in range(num))]
    if style == "fluorescence" and (kind == "colour" or (kind != "brightness" and rng.random() < 0.4)):
        pool = rng.sample(_FLUORESCENT, rng.choice((2, 2, 3)))
        return [(word, None, _varied(rng, _FLUORESCENT_RGB[word])) for word in (rng.choice(pool) for _ in range(num))]
    if style == "phase" and kind != "brightness" and rng.random() < 0.5:
        return [(None, None, _gray(128 + rng.uniform(-18, 18))) for _ in range(num)]
    tint = _FLUORESCENT_RGB[rng.choice(_FLUORESCENT)] if style == "fluorescence" and rng.random() < 0.35 else None
    levels = [_LEVELLED[rng.choices(("bright", "dark", "middle"), (0.45, 0.45, 0.1))[0]] for _ in range(num)]
    if kind == "brightness" and rng.random() < 0.4:
        spread = [0.25 + 0.75 * place / max(1, num - 1) for place in range(num)]
        rng.shuffle(spread)
        levels = [(level, level) for level in spread]
    fills: list[Fill] = []
    for low, high in levels:
        level = rng.uniform(low, high)
        full = tint or (250.0, 250.0, 250.0)
        fills.append((None, level, (full[0] * level, full[1] * level, full[2] * level)))
    return fills


def _varied(rng: Random, rgb: RGB) -> RGB:
    gain = rng.uniform(0.88, 1.06)
    red, green, blue = (min(255.0, max(0.0, value * gain + rng.uniform(-12, 12))) for value in rgb)
    return red, green, blue


def _gray(value: float) -> RGB:
    return value, value, value


def plan_arena(rng: Random, num: int, *, by_level: bool) -> tuple[list[Fill], float]:
    """Draw the fills of animals and the gray value of the floor, 0…255."""
    tones, floor = plan_silhouettes(rng, num, by_level=by_level)
    return [(None, level, _gray(tone)) for level, tone in tones], floor


def plan_floor(rng: Random, floor: float) -> Background:
    """Draw how even the floor of an arena is."""
    return Background(_gray(floor), _slope(rng, 12), clouds=rng.choice((0.0, rng.uniform(1, 6))))


def plan_background(rng: Random, style: str, fills: Sequence[RGB]) -> Background:
    """Draw a background that objects of some fills, RGB 0…255, stand out from; of an arena, see ``plan_floor``."""
    if style == "fluorescence":
        base = _gray(rng.uniform(3, 34))
        return Background(base, clouds=rng.uniform(0, 9), cloud_cells=rng.choice((3, 4, 6)))
    if style == "phase":
        base = _gray(rng.uniform(112, 148))
        return Background(base, _slope(rng, 18), clouds=rng.uniform(2, 14), cloud_cells=rng.choice((3, 5, 24)))
    if style == "gray":
        base = _gray(rng.choice((rng.uniform(8, 26), rng.uniform(104, 112))))
        return Background(base, _slope(rng, 8), clouds=rng.uniform(0, 7), cloud_cells=rng.choice((3, 5, 20)))
    bases = [_background_colour(rng) for _ in range(6)]
    contrasts = [min(math.dist(base, fill) for fill in fills) / _GOOD_CONTRAST for base in bases]
    good = [place for place, contrast in enumerate(contrasts) if contrast >= 1]
    place = good[0] if good else contrasts.index(max(contrasts))
    base, room = bases[place], min(1.3, contrasts[place])
    manner = rng.choice(("plain", "gradient", "clouds", "picture", "picture", "stripes"))
    return Background(
        base,
        _slope(rng, 34 * room) if manner == "gradient" or rng.random() < 0.3 else (0.0, 0.0),
        clouds=rng.uniform(8, 22) * room if manner == "clouds" else 0.0,
        cloud_cells=rng.choice((3, 4, 6, 10)),
        picture=rng.uniform(0.25, 0.5) * room if manner == "picture" else 0.0,
        stripes=rng.uniform(6, 20) * room if manner == "stripes" else 0.0,
        stripe_period_px=rng.uniform(6, 36),
    )


def _background_colour(rng: Random) -> RGB:
    brightness = rng.choice((rng.uniform(10, 70), rng.uniform(70, 190), rng.uniform(190, 245)))
    red, green, blue = (min(255.0, max(0.0, brightness + rng.gauss(0, 14))) for _ in range(3))
    return red, green, blue


def _slope(rng: Random, strength: float) -> tuple[float, float]:
    return rng.uniform(-strength, strength), rng.uniform(-strength, strength)


def plan_common_look(rng: Random, style: str, background: Background) -> dict[str, float]:
    """What cells of one scene share; a dome of their own would change which of them is the brightest."""
    if style == "fluorescence":
        return {"dome": rng.uniform(0.1, 0.5), "grain": rng.uniform(0.02, 0.18)}
    if style == "phase":
        look = {"grain": rng.uniform(0.02, 0.14), "dome": rng.uniform(0, 0.2), "rim_strength": rng.uniform(0.5, 0.95)}
        look |= {"rim_width": rng.uniform(0.8, 1.8), "rim_offset": rng.uniform(0.5, 1.5)}
        return look | {"rim_level": background.base[0] + rng.choice((85, 85, 60, -75))}
    return {}


def plan_look(rng: Random, style: str, radius: float) -> dict[str, float]:
    """Draw what one object of a scene has to itself."""
    if style == "arena":
        return plan_animal_look(rng)
    look = {"edge_softness": rng.uniform(1.0, 2.0), "phase": rng.uniform(0, 6.3)}
    if style == "fluorescence":
        return look | {"edge_softness": radius * 128 * rng.uniform(0.12, 0.3) + 0.8, "wobble": rng.uniform(0, 0.1)}
    if style == "phase":
        return look | {"wobble": rng.uniform(0, 0.1)}
    if style == "gray":
        return look | {"grain": rng.choice((0.0, rng.uniform(0.02, 0.1)))}
    return look | _geometric_texture(rng)


def _geometric_texture(rng: Random) -> dict[str, float]:
    look: dict[str, float] = {}
    pattern = rng.choices(("plain", "stripes", "checks", "grain"), (0.5, 0.14, 0.08, 0.28))[0]
    if pattern in ("stripes", "checks"):
        look |= {
            "stripes": rng.uniform(0.1, 0.26),
            "stripe_rate": rng.uniform(3.5, 9),
            "checks": float(pattern == "checks"),
        }
    elif pattern == "grain":
        look["grain"] = rng.uniform(0.06, 0.2)
    if rng.random() < 0.35:
        look |= {"shade": rng.uniform(-0.22, 0.22), "dome": rng.uniform(0, 0.25)}
    if rng.random() < 0.25:
        look |= {"rim_strength": 0.9, "rim_width": rng.uniform(0.6, 1.3), "rim_offset": -rng.uniform(0.6, 1.2)}
        look["rim_level"] = rng.choice((15.0, 15.0, 240.0))
    return look
