"""Which objects a phrase refers to, or that it is not clear."""

# T frames

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_facts import SHOWN_THROUGHOUT, both, exists, fades, is_fact, is_named, is_related

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_virst.training.scene_facts import Truth
    from napari_virst.training.scene_objects import Scene, SceneObject
    from napari_virst.training.scene_phrases import Phrase

RANK_RATIO = 1.2
"""Neighbours in an order of size differ at least by this factor."""

_LEVEL_GAP = 0.18

PLACES = {"second ": 1, "third ": 2}
"""How an order begins that means a later place."""


def meaning(scene: Scene, phrase: Phrase) -> tuple[int, ...] | None:
    """Which objects a phrase refers to.

    Returns
    -------
    tuple of int or None
        Indices into ``scene.objects``; empty if nothing fits; None if the phrase is not clear, or if its number (one,
        several) is wrong.
    """
    other: SceneObject | None = None
    if phrase.other is not None:
        found = meaning(scene, phrase.other)
        if found is None or len(found) != 1:
            return None
        other = scene.objects[found[0]]
    fits: list[int] = []
    for index, item in enumerate(scene.objects):
        truth = _fits(item, phrase, other)
        if truth is None:
            return None
        if truth:
            fits.append(index)
    fitting = tuple(fits)
    if phrase.superlative or phrase.relation == "nearest":
        return _first_by(scene.objects, fitting, phrase, other)
    if phrase.plural:
        return fitting if len(fitting) != 1 else None
    return fitting if len(fitting) <= 1 else None


def _fits(item: SceneObject, phrase: Phrase, other: SceneObject | None) -> Truth:
    if item is other:
        return False
    truth = both(exists(item), is_named(item, phrase.noun))
    facts = phrase.facts
    if phrase.superlative in TIME_ORDERS:
        facts = (*facts, TIME_ORDERS[phrase.superlative])
    for fact in facts:
        if truth is False:
            return False
        truth = both(truth, is_fact(item, fact))
    if truth is not False and other is not None and phrase.relation != "nearest":
        truth = both(truth, is_related(item, str(phrase.relation), other))
    return truth


def _first_by(
    objects: Sequence[SceneObject], fitting: tuple[int, ...], phrase: Phrase, other: SceneObject | None
) -> tuple[int, ...] | None:
    if len(fitting) < 2:
        return None
    items = [objects[index] for index in fitting]
    if other is not None:
        winner = _nearest(items, other)
        return None if winner is None else (fitting[winner],)
    superlative = str(phrase.superlative)
    place = next((place for word, place in PLACES.items() if superlative.startswith(word)), 0)
    order = superlative.removeprefix("second ").removeprefix("third ")
    if len(fitting) < 2 + place:
        return None
    ranks = sorted(range(len(items)), key=lambda index: _rank_key(items[index], order))
    clear = all(
        _precedes(items[before], items[after], order)
        for here in range(place + 1)
        for before, after in [(ranks[here], later) for later in ranks[here + 1 :]]
    )
    return (fitting[ranks[place]],) if clear else None


def _rank_key(item: SceneObject, order: str) -> float:
    if order in ("largest", "smallest"):
        return float(item.radius_T.mean()) * (-1 if order == "largest" else 1)
    if order in ("brightest", "darkest"):
        return (item.level or 0.0) * (-1 if order == "brightest" else 1)
    if order in TIME_ORDERS:
        return _moment(item, order) * (-1 if order.endswith("last") else 1)
    if order in ("fastest", "slowest"):
        return item.motion.length * (-1 if order == "fastest" else 1)
    axis, sign = ENDS[order]
    return float(item.centre_T2[:, axis].mean()) * sign


TIME_ORDERS = {
    "appears first": "event:appear",
    "appears last": "event:appear",
    "enters first": "event:enter",
    "enters last": "event:enter",
    "leaves first": "event:leave",
    "leaves last": "event:leave",
    "disappears first": "event:vanish",
    "disappears last": "event:vanish",
}
"""Places in the order in which things happen, and what happens."""

_TIME_GAP = 0.12
"""Between one event and the next, in lengths of the clip."""


def _moment(item: SceneObject, order: str, level: float = 0.3) -> float:
    """When an object comes to be seen, or is last seen, 0…1."""
    seen = np.flatnonzero(item.shown_T > level)
    if not len(seen):
        return 0.0
    arriving = TIME_ORDERS[order] in ("event:appear", "event:enter")
    return float(seen[0 if arriving else -1]) / max(1, len(item.shown_T) - 1)


ENDS = {"leftmost": (1, 1), "rightmost": (1, -1), "topmost": (0, 1), "bottommost": (0, -1)}


def _precedes(first: SceneObject, second: SceneObject, order: str) -> bool:
    """Whether one object comes before another in an order by a clear margin, on every frame."""
    if order in ("largest", "smallest"):
        large, small = (first, second) if order == "largest" else (second, first)
        whole = min(float(first.shown_T.min()), float(second.shown_T.min())) > 0.45
        extents = bool((large.extent_T >= 1.05 * small.extent_T).all())
        return whole and extents and bool((large.radius_T >= RANK_RATIO * small.radius_T).all())
    if order in TIME_ORDERS:
        sign = -1 if order.endswith("last") else 1
        gaps = [sign * (_moment(second, order, level) - _moment(first, order, level)) for level in (0.02, 0.3, 0.6)]
        return min(gaps) >= max(_TIME_GAP, 0.99 / (len(first.shown_T) - 1))
    if order in ("brightest", "darkest"):
        if first.level is None or second.level is None or fades(first) or fades(second):
            return False
        gap = first.level - second.level
        return (gap if order == "brightest" else -gap) >= _LEVEL_GAP
    if order in ("fastest", "slowest"):
        quick, slow = (first, second) if order == "fastest" else (second, first)
        steady = not {first.motion.manner, second.motion.manner} & {
            "wander",
            "leave",
            "enter",
            "stop",
            "start",
            "bump",
            "return",
        }
        return steady and quick.motion.length >= max(1.5 * slow.motion.length, slow.motion.length + 0.12)
    if min(float(first.shown_T.min()), float(second.shown_T.min())) < SHOWN_THROUGHOUT:
        return False
    axis, sign = ENDS[order]
    gap_T = sign * (second.centre_T2[:, axis] - first.centre_T2[:, axis])
    edge_T = gap_T + first.extent_T - second.extent_T
    return bool((gap_T >= 0.08).all()) and bool((edge_T >= 0.02).all())


def _nearest(items: Sequence[SceneObject], other: SceneObject) -> int | None:
    there_T = np.ones(len(other.shown_T), dtype=bool) if len(other.shown_T) < 4 else other.shown_T > 0.5
    if min(float(item.shown_T[there_T].min(initial=1)) for item in (*items, other)) < SHOWN_THROUGHOUT:
        return None
    if there_T.mean() < 0.33:
        return None
    away = [np.hypot(*(item.centre_T2 - other.centre_T2)[there_T].T) for item in items]
    order = sorted(range(len(items)), key=lambda index: float(away[index].mean()))
    gaps = [
        bool(((away[later] - away[order[0]]) >= 0.09).all())
        and bool(
            ((away[later] - away[order[0]]) - (items[later].extent_T - items[order[0]].extent_T)[there_T] >= 0.04).all()
        )
        for later in order[1:]
    ]
    return order[0] if all(gaps) else None
