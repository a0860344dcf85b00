"""How a query is put into words, with many paraphrases, and the closed list of all words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_virst.training.scene_fact_words import FACTS
from napari_virst.training.scene_nouns import CONFUSABLE_NOUNS, NOUNS, RELATIONS, SUPERLATIVES
from napari_virst.training.scene_wording import Wording

if TYPE_CHECKING:
    from random import Random

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
