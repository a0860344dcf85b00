"""Queries of every kind, proposed around one object of a scene and kept if they are true and clear."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_virst.training.scene_encounters import ENCOUNTERS
from napari_virst.training.scene_fact_words import FACTS
from napari_virst.training.scene_facts import both, exists, is_fact, is_related
from napari_virst.training.scene_meaning import ENDS, TIME_ORDERS, meaning
from napari_virst.training.scene_objects import COLOURS, GEOMETRIC_SHAPES, HELD_OUT_COMBINATIONS
from napari_virst.training.scene_phrases import Phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

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
    "time",
    "reasoning",
    "plural",
    "absent",
)
"""Every kind of query; see the functions ``_propose_…``."""

KINDS_IN_TIME = frozenset({"motion", "speed", "change", "division", "event", "time"})
"""Kinds that one frame cannot show."""


def _noun_of(rng: Random, item: SceneObject, *, plain: float = 0.5) -> tuple[str, tuple[str, ...]]:
    """Name an object, at times by its colour or shape as well."""
    general = item.general_noun
    chance = rng.random()
    if chance < plain:
        return general, ()
    coloured = (f"colour:{item.colour}",) if item.colour else ()
    if chance < plain + 0.2 and coloured:
        return general, coloured
    if chance > 0.93 and general == "any":
        return item.shape, coloured
    return item.shape, ()


def _propose_colour(rng: Random, item: SceneObject) -> Phrase:
    return Phrase(item.general_noun, (f"colour:{item.colour}",) if item.colour else ("level:bright",))


def _propose_shape(rng: Random, item: SceneObject) -> Phrase:
    if item.is_cell:
        return Phrase("cell", (rng.choice(("form:round", "form:elongated")),))
    return Phrase(item.shape)


def _propose_colour_shape(rng: Random, item: SceneObject) -> Phrase:
    facts: tuple[str, ...] = (f"colour:{item.colour}" if item.colour else rng.choice(("level:bright", "level:dark")),)
    if item.is_cell:
        facts += (rng.choice(("form:round", "form:elongated")),)
    return Phrase(item.shape, facts)


def _propose_brightness(rng: Random, item: SceneObject) -> Phrase:
    noun = rng.choice((item.general_noun, item.shape))
    if rng.random() < 0.5:
        return Phrase(noun, superlative=rng.choice(("brightest", "darkest")))
    return Phrase(noun, (rng.choice(("level:bright", "level:dark")),))


def _with_fact(options: Sequence[str]) -> Callable[[Random, SceneObject], Phrase]:
    """Build what names an object by one of some facts, a true one if there is any."""

    def propose(rng: Random, item: SceneObject) -> Phrase:
        true = [option for option in options if is_fact(item, option)]
        noun, facts = _noun_of(rng, item)
        return Phrase(noun, (*facts, rng.choice(true or list(options))))

    return propose


def _with_superlative(options: Sequence[str], plain: float = 0.55) -> Callable[[Random, SceneObject], Phrase]:
    """Build what names an object by one of some places in an order, true or not."""

    def propose(rng: Random, item: SceneObject) -> Phrase:
        noun, facts = _noun_of(rng, item, plain=plain)
        return Phrase(noun, facts, superlative=rng.choice(options))

    return propose


_SIZES = ("size:small", "size:large")
_RANKS = (*("largest", "smallest") * 4, *("second largest", "second smallest") * 2, "third largest", "third smallest")
_COURSES = ("move:left", "move:right", "move:up", "move:down")
_OLD_MOVES = (*_COURSES, *_COURSES, "move:still", "move:any", "move:curve", "move:turn")
_NEW_MOVES = ("move:spin", "move:stop", "move:start", "move:spin", "move:stop", "move:start", "move:straight")
_MOVES = (*_OLD_MOVES, *_NEW_MOVES)
_CHANGES = ("change:grow", "change:shrink", "change:fade", "change:blink")
_CORNERS = ("place:top left", "place:top right", "place:bottom left", "place:bottom right")
_PLACES = ("place:left", "place:right", "place:top", "place:bottom", "place:middle", *_CORNERS)


def _propose_position(rng: Random, item: SceneObject) -> Phrase:
    propose = _with_superlative(tuple(ENDS)) if rng.random() < 0.55 else _with_fact(_PLACES)
    return propose(rng, item)


def _propose_speed(rng: Random, item: SceneObject) -> Phrase:
    if rng.random() < 0.6:
        return _with_superlative(("fastest", "slowest"), 0.7)(rng, item)
    return _with_fact(("move:fast", "move:slow"))(rng, item)


def _propose_plural(rng: Random, item: SceneObject) -> Phrase:
    general = item.general_noun
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
    met = _meetings(scene) if rng.random() < 0.6 else []
    if met:
        item, relation, other = rng.choice(met)
        return Phrase(_noun_of(rng, item, plain=0.6)[0], relation=relation, other=_landmark(rng, other))
    other = rng.choice([candidate for candidate in scene.objects if candidate is not item])
    landmark = _landmark(rng, other)
    noun, facts = _noun_of(rng, item, plain=0.6)
    return Phrase(noun, facts, relation=_standing(rng, item, other), other=landmark)


def _standing(rng: Random, item: SceneObject, other: SceneObject) -> str:
    relations = [relation for relation in ("left", "right", "above", "below") if is_related(item, relation, other)]
    return "nearest" if not relations or rng.random() < 0.2 else rng.choice(relations)


_MEETINGS = ("follows", "overtakes", "bumps", "bumps", "touches")
_INVERSE = {"follows": "followed", "overtakes": "overtaken", "bumps": "bumped"}


@lru_cache(8)
def _meetings(scene: Scene, *, inverse: bool = False) -> list[tuple[SceneObject, str, SceneObject]]:
    """Everything that one object does with another; `inverse` tells it of the other one as well."""
    if len(scene.camera_T2) < _FEWEST_FRAMES_TO_MEET:
        return []
    pairs = [(item, other) for item in scene.objects for other in scene.objects if item is not other]
    found = [
        (item, name, other)
        for item, other in pairs
        if item.motion.length > 0 and both(exists(item), exists(other))
        for name in _MEETINGS
        if ENCOUNTERS[name](item, other)
    ]
    turned = [(other, _INVERSE[name], item) for item, name, other in found if name in _INVERSE] if inverse else []
    return found + turned


def _propose_time(rng: Random, item: SceneObject) -> Phrase:
    noun, facts = _noun_of(rng, item, plain=0.7)
    if is_fact(item, "event:return"):
        return Phrase(noun, (*facts, "event:return"))
    orders = [order for order, event in TIME_ORDERS.items() if is_fact(item, event)]
    return Phrase(noun, facts, superlative=rng.choice(orders or list(TIME_ORDERS)))


def _propose_reasoning(rng: Random, scene: Scene) -> Phrase:
    """Name an object by what it has to do with another one, and that one by more than its looks."""
    met = _meetings(scene, inverse=True) if rng.random() < 0.65 else []
    if met:
        item, relation, other = rng.choice(met)
        landmark = _landmark(rng, other) if rng.random() < 0.15 else _story(rng, other, scene)
        return Phrase(_noun_of(rng, item, plain=0.75)[0], relation=relation, other=landmark)
    item, other = rng.sample(scene.objects, 2)
    noun, facts = _noun_of(rng, item, plain=0.65)
    return Phrase(noun, facts, relation=_standing(rng, item, other), other=_story(rng, other, scene))


def _story(rng: Random, item: SceneObject, scene: Scene) -> Phrase:
    """Name an object by its rank, place, course, change or neighbour."""
    kinds = ["rank", "rank", "position", "position", "brightness" if item.level else "size"]
    if len(scene.camera_T2) > 1:
        kinds += ["motion", "motion", "speed", "change", "event", "time"]
    kind = rng.choice(kinds)
    phrase = _PROPOSALS[kind](rng, item)
    if kind in ("motion", "change", "event", "position") and phrase.facts and not is_fact(item, phrase.facts[-1]):
        return replace(phrase, facts=(), superlative=rng.choice(("largest", "smallest")))
    return phrase


def _landmark(rng: Random, other: SceneObject) -> Phrase:
    if other.general_noun != "any":
        forms = ("form:elongated",) if other.is_cell else ()
        options = [fact for fact in ("level:bright", "level:dark", *forms, *_SIZES) if is_fact(other, fact)]
        options += [f"colour:{other.colour}"] if other.colour else []
        return (
            Phrase(other.shape, (rng.choice(options),))
            if options
            else Phrase(other.shape, superlative=rng.choice(("largest", "smallest")))
        )
    colour = (f"colour:{other.colour}",) if other.colour else ()
    return rng.choice((Phrase(other.shape, colour), Phrase(other.shape), Phrase("any", colour or ("level:bright",))))


_FEWEST_FRAMES_TO_MEET = 4
_TRIES = {"relation": 10, "reasoning": 10}

_PROPOSALS: dict[str, Callable[[Random, SceneObject], Phrase]] = {
    "colour": _propose_colour,
    "shape": _propose_shape,
    "colour_shape": _propose_colour_shape,
    "brightness": _propose_brightness,
    "size": _with_fact(_SIZES),
    "rank": _with_superlative(_RANKS),
    "position": _propose_position,
    "motion": _with_fact(_MOVES),
    "speed": _propose_speed,
    "change": _with_fact(_CHANGES),
    "division": _with_fact(("change:divide",)),
    "event": _with_fact(("event:leave", "event:vanish", "event:enter", "event:appear")),
    "time": _propose_time,
    "plural": _propose_plural,
}


def propose(
    rng: Random, scene: Scene, kind: str, *, allow_held_out: bool = False
) -> tuple[Phrase, tuple[int, ...]] | None:
    """Look for one query of a kind that is true and clear in a scene.

    Returns
    -------
    (Phrase, tuple of int) or None
        The query and the objects it refers to, none for kind "absent"; None if no try succeeded.
    """
    items = [item for item in scene.objects if exists(item)]
    for _ in range(_TRIES.get(kind, 14) if items else 0):
        item = rng.choice(items)
        if kind == "absent":
            phrase = _propose_absent(rng, item, scene)
        elif kind == "relation":
            phrase = _propose_relation(rng, item, scene) if len(scene.objects) > 1 else Phrase("any")
        elif kind == "reasoning":
            phrase = _propose_reasoning(rng, scene) if len(scene.objects) > 2 else Phrase("any")
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
    kinds: tuple[str, ...] = ("colour", "shape", "colour_shape", "colour_shape", "size")
    if len(scene.camera_T2) > 1:
        kinds += ("motion", "change", "division", "event")
    kind = rng.choice(kinds)
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
