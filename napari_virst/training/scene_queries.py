"""Queries that are true: three-valued facts of objects, and queries that mean exactly one set of objects by clear margins."""

# T frames

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.training.scene_motion import FAST_LENGTH, SLOW_LENGTH, STILL_LENGTH
from napari_virst.training.scene_objects import COLOURS, GEOMETRIC_SHAPES, HELD_OUT_COMBINATIONS
from napari_virst.training.scene_words import FACTS, Phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from numpy.typing import NDArray

    from napari_virst.training.scene_objects import Scene, SceneObject

KINDS = (
    "colour",
    "shape",
    "colour_shape",
    "brightness",
    "size",
    "rank",
    "position",
    "motion",
    "speed",
    "change",
    "division",
    "event",
    "relation",
    "plural",
    "absent",
)
"""Every kind of query; see the functions ``_propose_…``."""

Truth = bool | None
"""True, False, or None where a person might hesitate."""

_SEEN_MIN = 0.3
_RANK_RATIO = 1.2


def _threshold(value: float, clearly_not: float, clearly: float) -> Truth:
    """Judge a value by two thresholds with a gap between; `clearly` may be the smaller one."""
    sign = 1 if clearly > clearly_not else -1
    if sign * value >= sign * clearly:
        return True
    return False if sign * value <= sign * clearly_not else None


def _both(first: Truth, second: Truth) -> Truth:
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def exists(item: SceneObject) -> Truth:
    """Whether the object can be seen well enough to be spoken of."""
    shown = item.shown_T
    if float(shown.max()) < 0.03:
        return False
    there = shown[shown > 0]
    return True if float(shown.max()) >= 0.65 and float(there.mean()) >= _SEEN_MIN and len(there) * 3 >= len(shown) else None


def is_fact(item: SceneObject, fact: str) -> Truth:
    """Whether a key of ``scene_words.FACTS`` is true of an object."""
    topic, _, value = fact.partition(":")
    return _TOPICS[topic](item, value)


def _colour(item: SceneObject, value: str) -> Truth:
    if item.colour is None:
        return None if value in ("white", "gray") or max(item.rgb) - min(item.rgb) > 10 else False
    return item.colour == value


def _size(item: SceneObject, value: str) -> Truth:
    radius_T = item.radius_T
    if value == "small":
        return _both(_threshold(float(radius_T.max()), 0.095, 0.067), _threshold(float(radius_T.min()), 0.095, 0.067))
    return _both(_threshold(float(radius_T.min()), 0.07, 0.1), _threshold(float(radius_T.max()), 0.07, 0.1))


def _level(item: SceneObject, value: str) -> Truth:
    if item.level is None:
        return None
    return _threshold(item.level, 0.55, 0.8) if value == "bright" else _threshold(item.level, 0.6, 0.38)


def _form(item: SceneObject, value: str) -> Truth:
    if not item.is_cell or item.motion.divides:
        return None
    return _threshold(item.aspect, 0.6, 0.8) if value == "round" else _threshold(item.aspect, 0.8, 0.6)


def _move(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if value in ("left", "right", "up", "down"):
        return _goes(item, value)
    if not motion.visible_T.all():
        return None
    if value == "still":
        return None if motion.manner == "wander" else _threshold(motion.length, 0.1, STILL_LENGTH)
    if value == "any":
        return None if motion.manner == "wander" else _threshold(motion.length, STILL_LENGTH, 0.12)
    if motion.manner in ("leave", "enter"):
        return None
    if value == "fast":
        return _threshold(motion.length, 0.24, FAST_LENGTH)
    if value == "slow":
        return _both(_threshold(motion.length, 0.3, SLOW_LENGTH), _threshold(motion.length, STILL_LENGTH, 0.12))
    if motion.manner == value:
        return True if motion.length >= 0.24 else None
    return False if motion.manner in ("still", "straight", "diagonal") else None


def _goes(item: SceneObject, direction: str) -> Truth:
    motion = item.motion
    if motion.manner in ("still", "wander"):
        return False
    if motion.manner in ("turn", "curve"):
        return None
    down, right = motion.displacement
    along, across = {"left": (-right, down), "right": (right, down), "up": (-down, right), "down": (down, right)}[direction]
    if along < 0.4 * abs(across) and along < 0.1:
        return False
    return True if along > 0.12 and along > 2.2 * abs(across) else None


def _change(item: SceneObject, value: str) -> Truth:
    motion = item.motion
    if value == "divide":
        return motion.divides
    if motion.divides:
        return None
    return _threshold(motion.growth, 1.1, 1.45) if value == "grow" else _threshold(motion.growth, 0.9, 0.69)


def _event(item: SceneObject, value: str) -> Truth:
    visible_T, shown_T = item.motion.visible_T, item.shown_T
    if item.motion.manner in ("leave", "enter"):
        return item.motion.manner == ("leave" if value == "leave" else "enter")
    first, last = (shown_T[0], shown_T[-1]) if value == "appear" else (shown_T[-1], shown_T[0])
    if not visible_T.all():
        return bool(last > 0.5) if not visible_T[0 if value == "appear" else -1] else False
    return False if first > 0.25 else None


_HALVES = {"left": (1, 1), "right": (1, -1), "top": (0, 1), "bottom": (0, -1)}


def _place(item: SceneObject, value: str) -> Truth:
    seen_T2 = item.centre_T2
    if value == "middle":
        away = np.abs(seen_T2 - 0.5)
        if float(away.max()) <= 0.13:
            return True
        return False if bool((away.max(1) > 0.24).all()) else None
    truth: Truth = True
    for word in value.split():
        axis, sign = _HALVES[word]
        depth_T = sign * (0.5 - seen_T2[:, axis])
        truth = _both(truth, _side(depth_T, deep=0.12 if " " in value else 0.1))
    return truth


def _side(depth_T: NDArray[np.float64], *, deep: float) -> Truth:
    if float(depth_T.min()) >= deep:
        return True
    return False if float(depth_T.max()) <= -0.02 else None


_TOPICS: dict[str, Callable[[SceneObject, str], Truth]] = {
    "colour": _colour,
    "size": _size,
    "level": _level,
    "form": _form,
    "move": _move,
    "change": _change,
    "event": _event,
    "place": _place,
}


def is_named(item: SceneObject, noun: str) -> Truth:
    """Whether a key of ``scene_words.NOUNS`` fits an object."""
    if noun == "any":
        return True
    return item.shape == noun


def is_related(item: SceneObject, relation: str, other: SceneObject) -> Truth:
    """Whether an object stands left of, right of, above or below another on every frame."""
    axis, sign = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}[relation]
    step_T2 = item.centre_T2 - other.centre_T2
    along_T, across_T = sign * step_T2[:, axis], np.abs(step_T2[:, 1 - axis])
    if bool((along_T <= 0.03).all()):
        return False
    return True if bool(((along_T >= 0.1) & (across_T <= 1.1 * along_T)).all()) else None


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
    truths = [_fits(item, phrase, other) for item in scene.objects]
    if None in truths:
        return None
    fitting = tuple(index for index, truth in enumerate(truths) if truth)
    if phrase.superlative or phrase.relation == "nearest":
        return _first_by(scene.objects, fitting, phrase, other)
    if phrase.plural:
        return fitting if len(fitting) != 1 else None
    return fitting if len(fitting) <= 1 else None


def _fits(item: SceneObject, phrase: Phrase, other: SceneObject | None) -> Truth:
    if item is other:
        return False
    truth = _both(exists(item), is_named(item, phrase.noun))
    for fact in phrase.facts:
        truth = _both(truth, is_fact(item, fact))
    if other is not None and phrase.relation != "nearest":
        truth = _both(truth, is_related(item, str(phrase.relation), other))
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
    place = 1 if superlative.startswith("second ") else 0
    if len(fitting) < 2 + place:
        return None
    ranks = sorted(range(len(items)), key=lambda index: _rank_key(items[index], superlative.removeprefix("second ")))
    clear = all(
        _precedes(items[before], items[after], superlative.removeprefix("second "))
        for here in range(place + 1)
        for before, after in [(ranks[here], later) for later in ranks[here + 1 :]]
    )
    return (fitting[ranks[place]],) if clear else None


def _rank_key(item: SceneObject, order: str) -> float:
    if order in ("largest", "smallest"):
        return float(item.radius_T.mean()) * (-1 if order == "largest" else 1)
    if order in ("brightest", "darkest"):
        return (item.level or 0.0) * (-1 if order == "brightest" else 1)
    if order in ("fastest", "slowest"):
        return item.motion.length * (-1 if order == "fastest" else 1)
    axis, sign = _ENDS[order]
    return float(item.centre_T2[:, axis].mean()) * sign


_ENDS = {"leftmost": (1, 1), "rightmost": (1, -1), "topmost": (0, 1), "bottommost": (0, -1)}


def _precedes(first: SceneObject, second: SceneObject, order: str) -> bool:
    """Whether one object comes before another in an order by a clear margin, on every frame."""
    if order in ("largest", "smallest"):
        large, small = (first, second) if order == "largest" else (second, first)
        whole = min(float(first.shown_T.min()), float(second.shown_T.min())) > 0.45
        extents = bool((large.extent_T >= 1.05 * small.extent_T).all())
        return whole and extents and bool((large.radius_T >= _RANK_RATIO * small.radius_T).all())
    if order in ("brightest", "darkest"):
        if first.level is None or second.level is None:
            return False
        gap = first.level - second.level
        return (gap if order == "brightest" else -gap) >= 0.16
    if order in ("fastest", "slowest"):
        quick, slow = (first, second) if order == "fastest" else (second, first)
        steady = not {first.motion.manner, second.motion.manner} & {"wander", "leave", "enter"}
        return steady and quick.motion.length >= max(1.5 * slow.motion.length, slow.motion.length + 0.12)
    axis, sign = _ENDS[order]
    gap_T = sign * (second.centre_T2[:, axis] - first.centre_T2[:, axis])
    edge_T = gap_T + first.extent_T - second.extent_T
    return bool((gap_T >= 0.08).all()) and bool((edge_T >= 0.02).all())


def _nearest(items: Sequence[SceneObject], other: SceneObject) -> int | None:
    away = [np.hypot(*(item.centre_T2 - other.centre_T2).T) for item in items]
    order = sorted(range(len(items)), key=lambda index: float(away[index].mean()))
    gaps = [
        bool(((away[later] - away[order[0]]) >= 0.09).all())
        and bool((away[later] - items[later].extent_T - away[order[0]] + items[order[0]].extent_T >= 0.04).all())
        for later in order[1:]
    ]
    return order[0] if all(gaps) else None


# How queries of each kind are proposed: around one object of the scene, so that most of them are true of it.


def _noun_of(rng: Random, item: SceneObject, *, plain: float = 0.5) -> tuple[str, tuple[str, ...]]:
    """Name an object, at times by its colour or shape as well."""
    general = "cell" if item.is_cell else "any"
    chance = rng.random()
    if chance < plain:
        return general, ()
    coloured = (f"colour:{item.colour}",) if item.colour else ()
    if chance < plain + 0.2 and coloured:
        return general, coloured
    if chance > 0.93 and not item.is_cell:
        return item.shape, coloured
    return item.shape, ()


def _propose_colour(rng: Random, item: SceneObject) -> Phrase:
    return Phrase("cell" if item.is_cell else "any", (f"colour:{item.colour}",) if item.colour else ("level:bright",))


def _propose_shape(rng: Random, item: SceneObject) -> Phrase:
    if item.is_cell:
        return Phrase("cell", (rng.choice(("form:round", "form:elongated")),))
    return Phrase(item.shape)


def _propose_colour_shape(rng: Random, item: SceneObject) -> Phrase:
    facts = (f"colour:{item.colour}",) if item.colour else (rng.choice(("level:bright", "level:dark")),)
    if item.is_cell:
        facts += (rng.choice(("form:round", "form:elongated")),)
    return Phrase(item.shape, facts)


def _propose_brightness(rng: Random, item: SceneObject) -> Phrase:
    noun = "cell" if item.is_cell else rng.choice(("any", item.shape))
    if rng.random() < 0.5:
        return Phrase(noun, superlative=rng.choice(("brightest", "darkest")))
    return Phrase(noun, (rng.choice(("level:bright", "level:dark")),))


def _with_fact(options: Sequence[str]) -> Callable[[Random, SceneObject], Phrase]:
    def propose(rng: Random, item: SceneObject) -> Phrase:
        true = [option for option in options if is_fact(item, option)]
        noun, facts = _noun_of(rng, item)
        return Phrase(noun, (*facts, rng.choice(true or list(options))))

    return propose


def _with_superlative(options: Sequence[str], plain: float = 0.55) -> Callable[[Random, SceneObject], Phrase]:
    def propose(rng: Random, item: SceneObject) -> Phrase:
        noun, facts = _noun_of(rng, item, plain=plain)
        return Phrase(noun, facts, superlative=rng.choice(options))

    return propose


_SIZES = ("size:small", "size:large")
_COURSES = ("move:left", "move:right", "move:up", "move:down")
_MOVES = (*_COURSES, *_COURSES, "move:still", "move:any", "move:curve", "move:turn")
_CORNERS = ("place:top left", "place:top right", "place:bottom left", "place:bottom right")
_PLACES = ("place:left", "place:right", "place:top", "place:bottom", "place:middle", *_CORNERS)
_ENDS_WORDS = tuple(_ENDS)


def _propose_position(rng: Random, item: SceneObject) -> Phrase:
    propose = _with_superlative(_ENDS_WORDS) if rng.random() < 0.55 else _with_fact(_PLACES)
    return propose(rng, item)


def _propose_speed(rng: Random, item: SceneObject) -> Phrase:
    if rng.random() < 0.6:
        return _with_superlative(("fastest", "slowest"), 0.7)(rng, item)
    return _with_fact(("move:fast", "move:slow"))(rng, item)


def _propose_plural(rng: Random, item: SceneObject) -> Phrase:
    general = "cell" if item.is_cell else "any"
    colour = (f"colour:{item.colour}",) if item.colour else ("level:bright",)
    chance = rng.random()
    if chance < 0.3:
        return Phrase(general, colour, plural=True)
    if chance < 0.55:
        return Phrase(item.shape, plural=True)
    if chance < 0.62:
        return Phrase(general, plural=True)
    options = (*_SIZES, *_COURSES, "move:still", "move:any", "place:left", "place:right", "level:bright", "level:dark")
    true = [option for option in options if is_fact(item, option)]
    noun = general if rng.random() < 0.75 else item.shape
    return Phrase(noun, (rng.choice(true),) if true else colour, plural=True)


def _propose_relation(rng: Random, item: SceneObject, scene: Scene) -> Phrase:
    other = rng.choice([candidate for candidate in scene.objects if candidate is not item])
    landmark = _landmark(rng, other)
    noun, facts = _noun_of(rng, item, plain=0.6)
    relations = [relation for relation in ("left", "right", "above", "below") if is_related(item, relation, other)]
    relation = "nearest" if not relations or rng.random() < 0.2 else rng.choice(relations)
    return Phrase(noun, facts, relation=relation, other=landmark)


def _landmark(rng: Random, other: SceneObject) -> Phrase:
    if other.is_cell:
        options = [fact for fact in ("level:bright", "level:dark", "form:elongated", *_SIZES) if is_fact(other, fact)]
        options += [f"colour:{other.colour}"] if other.colour else []
        return Phrase("cell", (rng.choice(options),)) if options else Phrase("cell", superlative=rng.choice(("largest", "smallest")))
    colour = (f"colour:{other.colour}",) if other.colour else ()
    return rng.choice((Phrase(other.shape, colour), Phrase(other.shape), Phrase("any", colour or ("level:bright",))))


_PROPOSALS: dict[str, Callable[[Random, SceneObject], Phrase]] = {
    "colour": _propose_colour,
    "shape": _propose_shape,
    "colour_shape": _propose_colour_shape,
    "brightness": _propose_brightness,
    "size": _with_fact(_SIZES),
    "rank": _with_superlative(("largest", "smallest", "largest", "smallest", "second largest", "second smallest")),
    "position": _propose_position,
    "motion": _with_fact(_MOVES),
    "speed": _propose_speed,
    "change": _with_fact(("change:grow", "change:shrink")),
    "division": _with_fact(("change:divide",)),
    "event": _with_fact(("event:leave", "event:appear")),
    "plural": _propose_plural,
}


def propose(rng: Random, scene: Scene, kind: str, *, allow_held_out: bool = False) -> tuple[Phrase, tuple[int, ...]] | None:
    """Look for one query of a kind that is true and clear in a scene.

    Returns
    -------
    (Phrase, tuple of int) or None
        The query and the objects it refers to, none for kind "absent"; None if no try succeeded.
    """
    items = [item for item in scene.objects if exists(item)]
    for _ in range(14 if items else 0):
        item = rng.choice(items)
        if kind == "absent":
            phrase = _propose_absent(rng, item, scene)
        elif kind == "relation":
            phrase = _propose_relation(rng, item, scene) if len(scene.objects) > 1 else Phrase("any")
        else:
            phrase = _PROPOSALS[kind](rng, item)
        found = meaning(scene, phrase)
        if found is None or bool(found) == (kind == "absent") or not (allow_held_out or _may_be_named(phrase)):
            continue
        return phrase, found
    return None


def _may_be_named(phrase: Phrase) -> bool:
    colours = [fact.removeprefix("colour:") for fact in phrase.facts if fact.startswith("colour:")]
    fine = all((colour, phrase.noun) not in HELD_OUT_COMBINATIONS for colour in colours)
    return fine and (phrase.other is None or _may_be_named(phrase.other))


def _propose_absent(rng: Random, item: SceneObject, scene: Scene) -> Phrase:
    """Bend a query that is true of an object until, most likely, nothing fits any more."""
    kind = rng.choice(("colour", "shape", "colour_shape", "colour_shape", "motion", "size", "change", "division", "event"))
    phrase = _PROPOSALS[kind](rng, item)
    if phrase.plural or phrase.superlative:
        return phrase
    noun, facts = phrase.noun, list(phrase.facts)
    if noun in GEOMETRIC_SHAPES and rng.random() < 0.5:
        noun = rng.choice([other.shape for other in scene.objects] if rng.random() < 0.6 else GEOMETRIC_SHAPES)
    for place, fact in enumerate(facts):
        topic = fact.split(":")[0]
        if rng.random() < 0.6 or noun == phrase.noun:
            facts[place] = _another(rng, topic, scene)
    return replace(phrase, noun=noun, facts=tuple(facts), plural=rng.random() < 0.1)


def _another(rng: Random, topic: str, scene: Scene) -> str:
    here = [f"colour:{item.colour}" for item in scene.objects if item.colour]
    if topic == "colour":
        return rng.choice(here) if here and rng.random() < 0.5 else f"colour:{rng.choice(list(COLOURS))}"
    return rng.choice([fact for fact in FACTS if fact.startswith(f"{topic}:")])
