"""The words of queries: how facts are put into phrases, with many paraphrases, and the closed list of all words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_virst.training.scene_objects import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


@dataclass(frozen=True)
class Wording:
    """Ways to say one fact, before the noun or after it."""

    adjectives: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    """After a singular noun."""
    plural_clauses: tuple[str, ...] = ()
    """After a plural noun."""


def _verb(third_person: str, plain: str, gerund: str, *objects: str) -> Wording:
    """Build "that moves left", "moving left", "which is moving left" and their plurals for each way to go."""
    clauses = [
        f"{start} {rest}".strip()
        for rest in objects or ("",)
        for start in (f"that {third_person}", gerund, f"that is {gerund}", f"which {third_person}")
    ]
    plural = [
        f"{start} {rest}".strip()
        for rest in objects or ("",)
        for start in (f"that {plain}", gerund, f"that are {gerund}", f"which {plain}")
    ]
    return Wording((), tuple(clauses), tuple(plural))


def _clauses(singular: tuple[str, ...], plural: tuple[str, ...]) -> Wording:
    """Build "that …" and "which …" from what follows a singular and a plural noun."""
    starts = ("that", "that", "which")
    return Wording(
        (),
        tuple(f"{start} {clause}" for clause in singular for start in starts),
        tuple(f"{start} {clause}" for clause in plural for start in starts),
    )


def _joined(*wordings: Wording) -> Wording:
    return Wording(
        tuple(word for wording in wordings for word in wording.adjectives),
        tuple(clause for wording in wordings for clause in wording.clauses),
        tuple(clause for wording in wordings for clause in wording.plural_clauses),
    )


def _place(*clauses: str, adjectives: tuple[str, ...] = ()) -> Wording:
    that = tuple(f"that is {clause}" for clause in clauses[:2])
    those = tuple(f"that are {clause}" for clause in clauses[:2])
    return Wording(adjectives, clauses + that, clauses + those)


def _course(direction: str) -> Wording:
    ways = {
        "left": ("left", "to the left", "leftwards", "towards the left"),
        "right": ("right", "to the right", "rightwards", "towards the right"),
        "up": ("up", "upwards", "to the top"),
        "down": ("down", "downwards", "to the bottom"),
    }[direction]
    return _joined(
        _verb("moves", "move", "moving", *ways, *ways[:2]),
        _verb("goes", "go", "going", *ways[:2]),
        _verb("travels", "travel", "travelling", *ways[:2]),
        *([_verb("rises", "rise", "rising")] if direction == "up" else []),
        *([_verb("sinks", "sink", "sinking")] if direction == "down" else []),
    )


def _order_in_time(verb: str, gerund: str, place: str, compared: str, *, more: tuple[str, ...] = ()) -> Wording:
    """Build "that appears first", "which appears first", "appearing first", "that appears before the others"."""
    clauses = (f"that {verb} {place}", f"that {verb} {place}", f"which {verb} {place}", f"{gerund} {place}")
    return Wording((), (*clauses, f"that {verb} {compared}", f"that is {place} to {_PLAIN[verb]}", *more))


_PLAIN = {"appears": "appear", "enters": "enter", "leaves": "leave", "disappears": "disappear"}

_COLOUR_WORDS = {word: (word,) for word in COLOURS} | {
    "purple": ("purple", "purple", "violet"),
    "gray": ("gray", "grey"),
}
_COLOUR_WORDS |= {"cyan": ("cyan", "cyan", "turquoise")}

FACTS: dict[str, Wording] = {
    f"colour:{colour}": Wording(
        words,
        tuple(f"that is {word}" for word in words) + tuple(f"with {word} colour" for word in words[:1]),
        tuple(f"that are {word}" for word in words),
    )
    for colour, words in _COLOUR_WORDS.items()
} | {
    "size:small": Wording(("small", "small", "little", "tiny"), ("that is small",), ("that are small",)),
    "size:large": Wording(
        ("large", "large", "big"), ("that is large", "that is big"), ("that are large", "that are big")
    ),
    "level:bright": Wording(("bright", "bright", "light"), ("that is bright",), ("that are bright",)),
    "level:dark": Wording(("dark", "dark", "dim"), ("that is dark",), ("that are dark",)),
    "form:round": Wording(("round", "round", "circular"), ("that is round",), ("that are round",)),
    "form:elongated": Wording(("elongated", "elongated", "long"), ("that is elongated",), ("that are elongated",)),
    "move:left": _course("left"),
    "move:right": _course("right"),
    "move:up": _course("up"),
    "move:down": _course("down"),
    "move:any": _joined(
        Wording(("moving",) * 3), _verb("moves", "move", "moving"), _verb("moves", "move", "moving", "around")
    ),
    "move:still": Wording(
        ("still", "static", "stationary", "resting"),
        (
            "that does not move",
            "that stays still",
            "that is still",
            "standing still",
            "that stays in place",
            "not moving",
        ),
        ("that do not move", "that stay still", "that are still", "standing still", "that stay in place", "not moving"),
    ),
    "move:fast": _joined(
        Wording(("fast", "quick", "fast moving")), _verb("moves", "move", "moving", "fast", "quickly")
    ),
    "move:slow": _joined(Wording(("slow", "slow moving")), _verb("moves", "move", "moving", "slowly")),
    "move:curve": _joined(_verb("moves", "move", "moving", "in a curve", "in an arc", "along a curve")),
    "move:turn": _joined(
        _verb("turns", "turn", "turning", "back"),
        _verb("goes", "go", "going", "there and back"),
        _verb("moves", "move", "moving", "back and forth"),
        _verb("comes", "come", "coming", "back"),
    ),
    "move:straight": _joined(
        _verb("moves", "move", "moving", "straight", "in a straight line", "along a line"),
        _verb("goes", "go", "going", "straight on"),
    ),
    "move:spin": _joined(
        Wording(("spinning", "rotating")),
        _verb("spins", "spin", "spinning", "", "around", "in place"),
        _verb("rotates", "rotate", "rotating", "", "in place"),
        _verb("turns", "turn", "turning", "around in place"),
    ),
    "move:stop": _joined(
        _verb("stops", "stop", "stopping", "", "moving"),
        _clauses(
            ("halts", "moves then stops", "moves and then halts"), ("halt", "move then stop", "move and then halt")
        ),
    ),
    "move:start": _joined(
        _verb("starts", "start", "starting", "moving", "moving later", "to move"),
        _clauses(("stays still then moves", "moves after resting"), ("stay still then move", "move after resting")),
    ),
    "change:grow": _joined(
        Wording(("growing", "growing", "expanding")),
        _verb("grows", "grow", "growing"),
        _verb("gets", "get", "getting", "bigger", "larger"),
        _verb("becomes", "become", "becoming", "bigger", "larger"),
    ),
    "change:shrink": _joined(
        Wording(("shrinking",)),
        _verb("shrinks", "shrink", "shrinking"),
        _verb("gets", "get", "getting", "smaller"),
        _verb("becomes", "become", "becoming", "smaller"),
    ),
    "change:divide": _joined(
        Wording(("dividing", "dividing", "splitting")),
        _verb("divides", "divide", "dividing", "", "", "in two", "into two"),
        _verb("splits", "split", "splitting", "", "in two", "into two"),
        _verb("becomes", "become", "becoming", "two"),
    ),
    "change:fade": _joined(
        Wording(("fading", "fading")),
        _verb("fades", "fade", "fading", "", "", "away"),
        _clauses(("dims",), ("dim",)),
        _verb("gets", "get", "getting", "dimmer"),
        _verb("becomes", "become", "becoming", "dimmer"),
    ),
    "change:blink": _joined(
        Wording(("blinking", "blinking", "flashing")),
        _verb("blinks", "blink", "blinking"),
        _verb("flashes", "flash", "flashing"),
        _verb("goes", "go", "going", "off and on", "on and off"),
    ),
    "event:return": _joined(
        _verb("returns", "return", "returning"),
        _verb("comes", "come", "coming", "back", "back again", "back later", "back into the picture"),
        _clauses(
            ("leaves and then returns", "leaves and comes back", "goes away and comes back"),
            ("leave and then return", "leave and come back", "go away and come back"),
        ),
        _verb("appears", "appear", "appearing", "again", "twice"),
    ),
    "event:leave": _joined(
        _verb("leaves", "leave", "leaving", "", "the picture", "the frame"),
        _verb("goes", "go", "going", "out of the picture"),
        _verb("moves", "move", "moving", "out of the picture"),
    ),
    "event:vanish": _joined(
        _verb("disappears", "disappear", "disappearing"),
        _verb("vanishes", "vanish", "vanishing"),
        _verb("goes", "go", "going", "away"),
    ),
    "event:enter": _joined(
        _verb("enters", "enter", "entering", "", "the picture", "the frame"),
        _verb("comes", "come", "coming", "in", "into the picture"),
    ),
    "event:appear": _joined(_verb("appears", "appear", "appearing", "", "later")),
    "place:left": _place("on the left", "on the left side", "at the left", "in the left half"),
    "place:right": _place("on the right", "on the right side", "at the right", "in the right half"),
    "place:top": _place("at the top", "in the upper half", "in the top half"),
    "place:bottom": _place("at the bottom", "in the lower half", "in the bottom half"),
    "place:middle": _place(
        "in the middle",
        "in the centre",
        "in the center",
        "in the middle of the picture",
        adjectives=("middle", "central"),
    ),
    "place:top left": _place(
        "in the top left corner", "at the top left", "in the upper left", adjectives=("top left", "upper left")
    ),
    "place:top right": _place(
        "in the top right corner", "at the top right", "in the upper right", adjectives=("top right", "upper right")
    ),
    "place:bottom left": _place(
        "in the bottom left corner", "at the bottom left", "in the lower left", adjectives=("bottom left", "lower left")
    ),
    "place:bottom right": _place(
        "in the bottom right corner",
        "at the bottom right",
        "in the lower right",
        adjectives=("bottom right", "lower right"),
    ),
}
"""Wording of every fact that can be true of an object."""

SUPERLATIVES: dict[str, Wording] = {
    "largest": Wording(("largest", "largest", "biggest"), ("that is the largest", "that is bigger than the others")),
    "smallest": Wording(
        ("smallest", "smallest", "tiniest"), ("that is the smallest", "that is smaller than the others")
    ),
    "second largest": Wording(("second largest", "second biggest")),
    "second smallest": Wording(("second smallest",)),
    "third largest": Wording(("third largest", "third biggest")),
    "third smallest": Wording(("third smallest",)),
    "leftmost": Wording(
        ("leftmost", "leftmost", "left most"),
        ("on the far left", "furthest to the left", "that is furthest left", "closest to the left edge"),
    ),
    "rightmost": Wording(
        ("rightmost", "rightmost", "right most"),
        ("on the far right", "furthest to the right", "that is furthest right", "closest to the right edge"),
    ),
    "topmost": Wording(
        ("topmost", "highest", "uppermost", "top"), ("furthest up", "closest to the top", "nearest to the top edge")
    ),
    "bottommost": Wording(
        ("bottommost", "lowest", "bottom"), ("furthest down", "closest to the bottom", "nearest to the bottom edge")
    ),
    "brightest": Wording(("brightest", "lightest"), ("that is the brightest", "that is brighter than the others")),
    "darkest": Wording(("darkest", "dimmest"), ("that is the darkest", "that is darker than the others")),
    "appears first": _order_in_time("appears", "appearing", "first", "earlier than the others"),
    "appears last": _order_in_time("appears", "appearing", "last", "after the others"),
    "enters first": _order_in_time("enters", "entering", "first", "before the others", more=("that comes in first",)),
    "enters last": _order_in_time("enters", "entering", "last", "after the others", more=("that comes in last",)),
    "leaves first": _order_in_time("leaves", "leaving", "first", "before the others", more=("that goes out first",)),
    "leaves last": _order_in_time("leaves", "leaving", "last", "after the others", more=("that goes out last",)),
    "disappears first": _order_in_time("disappears", "disappearing", "first", "before the others"),
    "disappears last": _order_in_time("disappears", "disappearing", "last", "after the others"),
    "fastest": Wording(
        ("fastest", "fastest", "quickest", "fastest moving"),
        ("that moves the fastest", "that is the fastest", "that moves the most"),
    ),
    "slowest": Wording(
        ("slowest", "slowest", "slowest moving"),
        ("that moves the slowest", "that is the slowest", "that moves the least"),
    ),
}
"""Wording of every place in an order."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "that is left of", "on the left of", "that is to the left of"),
    "right": ("to the right of", "right of", "that is right of", "on the right of", "that is to the right of"),
    "above": ("above", "that is above", "over", "higher than"),
    "below": ("below", "that is below", "under", "beneath", "lower than"),
    "nearest": (
        "closest to",
        "nearest to",
        "that is closest to",
        "nearest",
        "closest to",
        "nearest to",
        "next to",
        "near",
    ),
    "touches": ("that touches", "touching", "that is touching", "which touches"),
    "bumps": (
        "that bumps into",
        "bumping into",
        "that hits",
        "which bumps into",
        "that moves until touching",
    ),
    "bumped": ("that {} bumps into", "which {} bumps into", "hit by {}", "that {} hits", "that is hit by {}"),
    "follows": (
        "that follows",
        "following",
        "that is following",
        "which follows",
        "that chases",
        "chasing",
        "that moves behind",
        "that moves along the same line behind",
    ),
    "followed": ("that {} follows", "that {} chases", "which {} follows", "that moves in front of {}"),
    "overtakes": (
        "that overtakes",
        "overtaking",
        "which overtakes",
        "that passes",
        "passing",
        "that passes by",
    ),
    "overtaken": ("that {} overtakes", "that {} passes", "which {} overtakes"),
}
"""Words between an object and the object it is compared with, which comes last or in the place of {}."""

NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "any": (("object", "objects"), ("object", "objects"), ("thing", "things"), ("shape", "shapes"), ("one", "ones")),
    "circle": (
        ("circle", "circles"),
        ("circle", "circles"),
        ("disc", "discs"),
        ("disk", "disks"),
        ("round thing", "round things"),
    ),
    "square": (("square", "squares"), ("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "ring": (("ring", "ring" + "s"), ("ring", "rings"), ("donut", "donuts"), ("hoop", "hoops")),
    "star": (("star", "stars"),),
    "bar": (("bar", "bars"), ("bar", "bars"), ("stick", "sticks"), ("rectangle", "rectangles")),
    "animal": (
        ("animal", "animals"),
        ("animal", "animals"),
        ("mouse", "mice"),
        ("mouse", "mice"),
        ("object", "objects"),
        ("thing", "things"),
        ("one", "ones"),
    ),
    "cell": (
        ("cell", "cells"),
        ("cell", "cells"),
        ("cell", "cells"),
        ("nucleus", "nuclei"),
        ("blob", "blobs"),
        ("object", "objects"),
        ("spot", "spots"),
    ),
}
"""Singular and plural names; "any" fits every object of a geometric scene."""

CONFUSABLE_NOUNS: dict[str, frozenset[str]] = {
    "rectangle": frozenset({"square"}),
    "box": frozenset({"bar"}),
    "round thing": frozenset({"ring", "cell"}),
}
"""Names that would also fit another shape, and that shape."""

_LEADS = (
    "find",
    "segment",
    "track",
    "follow",
    "select",
    "mark",
    "highlight",
    "please segment",
    "show me",
    "outline",
    "show",
)
_TAILS = ("in the video", "in this clip", "in the picture", "here")
_ORDER = {"move": 0, "change": 0, "event": 0, "place": 0, "size": 1, "level": 2, "form": 3, "colour": 4}
"""Which adjectives come first."""

_QUESTIONS = ("where is", "where are")
_ARTICLES = (
    "the",
    "a",
    "an",
    "all",
    "all the",
    "every",
    "each",
    "both",
    "both the",
    "everything",
    "everything that",
    "any",
)


@dataclass(frozen=True)
class Phrase:
    """What a query says, before it is put into words."""

    noun: str
    """A key of ``NOUNS``."""
    facts: tuple[str, ...] = ()
    """Keys of ``FACTS``."""
    superlative: str | None = None
    """A key of ``SUPERLATIVES``."""
    plural: bool = False
    relation: str | None = None
    """A key of ``RELATIONS``."""
    other: Phrase | None = None
    """The object that `relation` compares with."""


def say(rng: Random, phrase: Phrase, *, num_meant: int = 1, shapes_present: frozenset[str] = frozenset()) -> str:
    """Put a phrase into words, one of many ways.

    Parameters
    ----------
    rng
        Source of chance.
    phrase
        What to say.
    num_meant
        How many objects it refers to; "both" is said of two only.
    shapes_present
        Shapes in the scene, so that no noun fits a second one.

    Returns
    -------
    str
        Lower-case words divided by single blanks.
    """
    text = noun_phrase(rng, phrase, num_meant=num_meant, shapes_present=shapes_present)
    chance = rng.random()
    if chance < 0.36:
        text = f"{rng.choice(_LEADS)} {text}"
    elif chance < 0.42 and not text.startswith(("every", "each")):
        text = f"{_QUESTIONS[phrase.plural]} {text}"
    if rng.random() < 0.05 and len(text.split()) < 9:
        text = f"{text} {rng.choice(_TAILS)}"
    return text


def noun_phrase(rng: Random, phrase: Phrase, *, num_meant: int, shapes_present: frozenset[str]) -> str:
    """Say a phrase as article, adjectives, noun and clauses."""
    before, after = _arrange(rng, phrase)
    names = [name for name in NOUNS[phrase.noun] if not CONFUSABLE_NOUNS.get(name[0], frozenset()) & shapes_present]
    names = [
        name
        for name in names
        if (name[0] != "one" or before or after or phrase.other) and (name[0] != "round thing" or "round" not in before)
    ]
    singular, plural = rng.choice(names)
    if phrase.other is not None:
        link = rng.choice(RELATIONS[str(phrase.relation)])
        other = noun_phrase(rng, phrase.other, num_meant=1, shapes_present=shapes_present)
        other = other if other.startswith(("the ", "a ", "an ")) else f"the {other}"
        after.append(link.format(other) if "{}" in link else f"{link} {other}")
        if phrase.plural:
            after[-1] = after[-1].replace("that is ", "that are ", 1)
    if not phrase.plural:
        article = (
            "the" if phrase.superlative or phrase.relation else rng.choices(("the", "a", ""), (0.76, 0.09, 0.15))[0]
        )
        article = "the" if singular == "one" and article == "a" else article
        article = "an" if article == "a" and [*before, singular][0][0] in "aeiou" else article
        article = "" if phrase.superlative and rng.random() < 0.12 else article
        return " ".join(part for part in (article, *before, singular, *after) if part)
    return _plural_phrase(rng, before, singular, plural, after, num_meant, phrase)


def say_plainly(phrase: Phrase) -> str:
    """Put a phrase without relation into the plainest words, always the same: "the red circle"."""
    order = SUPERLATIVES[phrase.superlative] if phrase.superlative else Wording()
    before = list(order.adjectives[:1])
    after = [] if order.adjectives else list(order.clauses[:1])
    for fact in sorted(phrase.facts, key=lambda fact: _ORDER[fact.split(":")[0]]):
        wording = FACTS[fact]
        clauses = wording.plural_clauses if phrase.plural else wording.clauses
        if clauses and _ORDER[fact.split(":")[0]] == 0:
            after.append(clauses[0])
        else:
            before.append(wording.adjectives[0])
    return " ".join(["the", *before, NOUNS[phrase.noun][0][phrase.plural], *after])


def _plural_phrase(
    rng: Random, before: list[str], singular: str, plural: str, after: list[str], num_meant: int, phrase: Phrase
) -> str:
    if (
        phrase.noun in ("any", "cell", "animal")
        and not before
        and len(phrase.facts) == 1
        and not phrase.other
        and rng.random() < 0.25
    ):
        clause = rng.choice(FACTS[phrase.facts[0]].clauses)
        return f"everything {clause}"
    articles = ["all", "all the", "the", "the", "the", "all", ""] + (
        ["both", "both", "both the"] if num_meant == 2 else []
    )
    if not after and rng.random() < 0.15 and singular != "one":
        return " ".join([rng.choice(("every", "each")), *before, singular])
    if plural == "ones" or not (before or after or phrase.noun not in ("any", "cell", "animal")):
        articles = ["all the", "the"] if plural == "ones" else ["all", "all the"]
    return " ".join(part for part in (rng.choice(articles), *before, plural, *after) if part)


def _arrange(rng: Random, phrase: Phrase) -> tuple[list[str], list[str]]:
    before: list[str] = []
    after: list[str] = []
    if phrase.superlative:
        wording = SUPERLATIVES[phrase.superlative]
        if not wording.adjectives or (wording.clauses and rng.random() < 0.35):
            after.append(rng.choice(wording.clauses))
        else:
            before.append(rng.choice(wording.adjectives))
    for fact in sorted(phrase.facts, key=lambda fact: _ORDER[fact.split(":")[0]]):
        wording = FACTS[fact]
        clauses = wording.plural_clauses if phrase.plural else wording.clauses
        as_clause = not wording.adjectives or (
            not after and not phrase.other and bool(clauses) and rng.random() < _clause_share(fact)
        )
        (after if as_clause else before).append(rng.choice(clauses if as_clause else wording.adjectives))
    return before, after


def _clause_share(fact: str) -> float:
    return {"colour": 0.1, "size": 0.08, "level": 0.1, "form": 0.1, "move": 0.7, "change": 0.7, "place": 0.75}[
        fact.split(":")[0]
    ]


def vocabulary() -> tuple[str, ...]:
    """Every word that any query can contain, sorted."""
    texts: list[str] = [*_LEADS, *_TAILS, *_QUESTIONS, *_ARTICLES]
    for wording in (*FACTS.values(), *SUPERLATIVES.values()):
        texts += [*wording.adjectives, *wording.clauses, *wording.plural_clauses]
    texts += [link.replace("{}", "") for links in RELATIONS.values() for link in links]
    texts += [name for names in NOUNS.values() for pair in names for name in pair]
    return tuple(sorted({word for text in [*texts, "that are"] for word in text.split()}))


def words_of(texts: Sequence[str]) -> frozenset[str]:
    """Every word used in some texts."""
    return frozenset(word for text in texts for word in text.split())
