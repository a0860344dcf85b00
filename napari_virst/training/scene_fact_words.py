"""The words of what can be true of an object: its looks, its course, what becomes of it, and its place."""

from __future__ import annotations

from napari_virst.training.scene_objects import COLOURS
from napari_virst.training.scene_wording import Wording, joined, that_or_which, verb


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
    return joined(
        verb("moves", "move", "moving", *ways, *ways[:2]),
        verb("goes", "go", "going", *ways[:2]),
        verb("travels", "travel", "travelling", *ways[:2]),
        *([verb("rises", "rise", "rising")] if direction == "up" else []),
        *([verb("sinks", "sink", "sinking")] if direction == "down" else []),
    )


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
    "move:any": joined(
        Wording(("moving",) * 3), verb("moves", "move", "moving"), verb("moves", "move", "moving", "around")
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
    "move:fast": joined(Wording(("fast", "quick", "fast moving")), verb("moves", "move", "moving", "fast", "quickly")),
    "move:slow": joined(Wording(("slow", "slow moving")), verb("moves", "move", "moving", "slowly")),
    "move:curve": joined(verb("moves", "move", "moving", "in a curve", "in an arc", "along a curve")),
    "move:turn": joined(
        verb("turns", "turn", "turning", "back"),
        verb("goes", "go", "going", "there and back"),
        verb("moves", "move", "moving", "back and forth"),
        verb("comes", "come", "coming", "back"),
    ),
    "move:straight": joined(
        verb("moves", "move", "moving", "straight", "in a straight line", "along a line"),
        verb("goes", "go", "going", "straight on"),
    ),
    "move:spin": joined(
        Wording(("spinning", "rotating")),
        verb("spins", "spin", "spinning", "", "around", "in place"),
        verb("rotates", "rotate", "rotating", "", "in place"),
        verb("turns", "turn", "turning", "around in place"),
    ),
    "move:stop": joined(
        verb("stops", "stop", "stopping", "", "moving"),
        that_or_which(
            ("halts", "moves then stops", "moves and then halts"), ("halt", "move then stop", "move and then halt")
        ),
    ),
    "move:start": joined(
        verb("starts", "start", "starting", "moving", "moving later", "to move"),
        that_or_which(
            ("stays still then moves", "moves after resting"), ("stay still then move", "move after resting")
        ),
    ),
    "change:grow": joined(
        Wording(("growing", "growing", "expanding")),
        verb("grows", "grow", "growing"),
        verb("gets", "get", "getting", "bigger", "larger"),
        verb("becomes", "become", "becoming", "bigger", "larger"),
    ),
    "change:shrink": joined(
        Wording(("shrinking",)),
        verb("shrinks", "shrink", "shrinking"),
        verb("gets", "get", "getting", "smaller"),
        verb("becomes", "become", "becoming", "smaller"),
    ),
    "change:divide": joined(
        Wording(("dividing", "dividing", "splitting")),
        verb("divides", "divide", "dividing", "", "", "in two", "into two"),
        verb("splits", "split", "splitting", "", "in two", "into two"),
        verb("becomes", "become", "becoming", "two"),
    ),
    "change:fade": joined(
        Wording(("fading", "fading")),
        verb("fades", "fade", "fading", "", "", "away"),
        that_or_which(("dims",), ("dim",)),
        verb("gets", "get", "getting", "dimmer"),
        verb("becomes", "become", "becoming", "dimmer"),
    ),
    "change:blink": joined(
        Wording(("blinking", "blinking", "flashing")),
        verb("blinks", "blink", "blinking"),
        verb("flashes", "flash", "flashing"),
        verb("goes", "go", "going", "off and on", "on and off"),
    ),
    "event:return": joined(
        verb("returns", "return", "returning"),
        verb("comes", "come", "coming", "back", "back again", "back later", "back into the picture"),
        that_or_which(
            ("leaves and then returns", "leaves and comes back", "goes away and comes back"),
            ("leave and then return", "leave and come back", "go away and come back"),
        ),
        verb("appears", "appear", "appearing", "again", "twice"),
    ),
    "event:leave": joined(
        verb("leaves", "leave", "leaving", "", "the picture", "the frame"),
        verb("goes", "go", "going", "out of the picture"),
        verb("moves", "move", "moving", "out of the picture"),
    ),
    "event:vanish": joined(
        verb("disappears", "disappear", "disappearing"),
        verb("vanishes", "vanish", "vanishing"),
        verb("goes", "go", "going", "away"),
    ),
    "event:enter": joined(
        verb("enters", "enter", "entering", "", "the picture", "the frame"),
        verb("comes", "come", "coming", "in", "into the picture"),
    ),
    "event:appear": joined(verb("appears", "appear", "appearing", "", "later")),
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
