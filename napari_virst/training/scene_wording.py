"""How one fact is worded: before a noun or after it, of one object or of several."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """Ways to say one fact, before the noun or after it."""

    adjectives: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    """After a singular noun."""
    plural_clauses: tuple[str, ...] = ()
    """After a plural noun."""


def verb(third_person: str, plain: str, gerund: str, *objects: str) -> Wording:
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


def that_or_which(singular: tuple[str, ...], plural: tuple[str, ...]) -> Wording:
    """Build "that …" and "which …" from what follows a singular and a plural noun."""
    starts = ("that", "that", "which")
    return Wording(
        (),
        tuple(f"{start} {clause}" for clause in singular for start in starts),
        tuple(f"{start} {clause}" for clause in plural for start in starts),
    )


def joined(*wordings: Wording) -> Wording:
    """Put the ways to say one fact together."""
    return Wording(
        tuple(word for wording in wordings for word in wording.adjectives),
        tuple(clause for wording in wordings for clause in wording.clauses),
        tuple(clause for wording in wordings for clause in wording.plural_clauses),
    )
