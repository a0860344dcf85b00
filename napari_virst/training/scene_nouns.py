"""Names of objects, and the words that compare them with others: places in an order, and relations."""

from __future__ import annotations

from napari_virst.training.scene_wording import Wording

_PLAIN = {"appears": "appear", "enters": "enter", "leaves": "leave", "disappears": "disappear"}


def _order_in_time(verb: str, gerund: str, place: str, compared: str, *, more: tuple[str, ...] = ()) -> Wording:
    """Build "that appears first", "which appears first", "appearing first", "that appears before the others"."""
    clauses = (f"that {verb} {place}", f"that {verb} {place}", f"which {verb} {place}", f"{gerund} {place}")
    return Wording((), (*clauses, f"that {verb} {compared}", f"that is {place} to {_PLAIN[verb]}", *more))


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
