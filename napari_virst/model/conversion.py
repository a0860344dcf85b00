"""What becomes of every tensor of a published checkpoint, decided before a number is read.

Shape legend: D outputs, C inputs, R rank.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from napari_virst.errors import CheckpointError
from napari_virst.model.checkpoint import POINT_EMBEDDING, fold, normalise, place_of, published_name
from napari_virst.model.shards import Slot
from napari_virst.model.virst import VirstModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from napari_virst.model.config import VirstConfig
    from napari_virst.model.published_config import PublishedSizes
    from napari_virst.model.tensor_files import StoredTensor, TensorSource

HEAD = "lm_head.weight"
HEAD_FILE = "lm_head.safetensors"
"""Lies beside the weights; from_pretrained does not look at it."""
_SAM_PREFIX = "model.seg_model."
_NUM_NAMED = 5

_GROUPS: tuple[tuple[str, str], ...] = (
    (r"language\.model\.layers\.", "language model: layers"),
    (r"language\.", "language model: words and last norm"),
    (r"video_tower\.", "video tower"),
    (r"projector\.", "projector"),
    (r"initial_fusion\.", "initial fusion"),
    (r"prompter\.", "prompter"),
    (r"segmenter\.vision_encoder\.", "SAM 2.1: image encoder"),
    (r"segmenter\.(prompt_encoder|mask_decoder|shared_image_embedding)\.", "SAM 2.1: prompts and mask decoder"),
    (r"segmenter\.", "SAM 2.1: memory"),
    (r"lm_head\.", "vocabulary head"),
)
# Where a group can be found when the checkpoint lacks it.
_ELSEWHERE = {"language model": "--base", "video tower": "--base", "projector": "--base", "SAM 2.1": "--sam2"}

FIXED_TABLES = ("positional_embedding",)
"""Random Fourier matrices of SAM's positions stay float32: rounded to bfloat16 they move positions (virst-spec §11)."""


def group_of(target: str) -> str:
    """Return the part of the network that a tensor of :class:`VirstModel` belongs to."""
    return next(group for pattern, group in _GROUPS if re.match(pattern, target))


@dataclass(frozen=True)
class Piece:
    """A published tensor and the source it is taken from."""

    source: str
    stored: StoredTensor


@dataclass(frozen=True)
class Recipe:
    """How one tensor of :class:`VirstModel` is made."""

    slot: Slot
    pieces: tuple[Piece, ...]
    """Rows below each other; one piece but for the point embeddings; none where zeros are written on purpose."""
    lora: tuple[Piece, Piece] | None = None
    """A and B."""
    scaling: float = 0.0

    def compute(self) -> Tensor:
        """Read and merge; at most the whole tensor and its float32 copy are in memory."""
        if not self.pieces:
            return torch.zeros(self.slot.shape)
        parts = [piece.stored.read() for piece in self.pieces]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        if whole.ndim:
            whole = whole[: self.slot.shape[0]]
        if self.lora is None:
            return whole
        a_RC, b_DR = (piece.stored.read() for piece in self.lora)
        return fold(whole, a_RC, b_DR, self.scaling)


@dataclass(frozen=True)
class ConversionPlan:
    """All recipes, in the order of the model, and what is told of them."""

    config: VirstConfig
    recipes: tuple[Recipe, ...]
    head: Recipe | None
    """The vocabulary head, where a source has it."""
    dropped: Mapping[str, str]
    """Published name to reason."""
    notes: tuple[str, ...]
    sources: tuple[TensorSource, ...]
    scaling: float

    @property
    def num_bytes(self) -> int:
        """Bytes of everything that is to be written."""
        return sum(r.slot.num_bytes for r in (*self.recipes, *([self.head] if self.head else [])))

    @property
    def groups(self) -> dict[str, dict[str, int]]:
        """Tensors per part of the network and source; LoRA matrices that are merged count as a part of their own."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for recipe in (*self.recipes, *([self.head] if self.head else [])):
            where = " + ".join(sorted({p.source for p in recipe.pieces})) or "switched off"
            counts[group_of(recipe.slot.name)][where] += 1
            if recipe.lora:
                counts["LoRA, merged"][recipe.lora[0].source] += 2
        return {group: dict(of) for group, of in counts.items()}


def plan_conversion(
    sources: Sequence[TensorSource],
    sizes: PublishedSizes,
    dtype: torch.dtype,
    *,
    without_initial_fusion: bool = False,
) -> ConversionPlan:
    """Decide what every tensor of the model is made of.

    Parameters
    ----------
    sources
        In order of precedence: checkpoint, base model, SAM 2.1. What the first lacks is taken from the next.
    sizes
        Of the model that the checkpoint holds.
    dtype
        Of what is written; see :data:`FIXED_TABLES` for what stays float32.
    without_initial_fusion
        Write a first fusion that does nothing where no source has one. It is off in the published evaluation.

    Raises
    ------
    CheckpointError
        When a name is unknown, missing or has no place, or a shape is wrong; the message names them.
    """
    found = _Found.collect(sources)
    expected = _expected_shapes(sizes.config)
    pieces, dropped, surplus = _assign(found.tensors, expected)
    lora = _pair_lora(found.lora, sizes.lora_rank)
    _refuse("Every tensor must have a place in a model of these sizes", surplus, "give its sizes by --config")
    missing = _missing(pieces, expected)
    off = {name for name in expected if name.startswith("initial_fusion.")}
    off = off if without_initial_fusion and off <= missing else set()
    _refuse_missing([name for name in expected if name in missing - off])
    recipes, problems = [], []
    for name, shape in expected.items():
        slot = Slot(name, shape, torch.float32 if name.endswith(FIXED_TABLES) else dtype)
        recipe = Recipe(slot, pieces.get(name, ()), lora.pop(name, None), sizes.lora_scaling)
        problems += _shape_problems(recipe)
        recipes.append(recipe)
    _refuse("Every tensor must have the shape that the sizes ask for", problems, "give its sizes by --config")
    _refuse(
        "Every LoRA matrix must have a weight", [p.stored.name for pair in lora.values() for p in pair], "see --config"
    )
    head = _head_recipe(found.tensors.get(HEAD), sizes.config, dtype)
    notes = [*found.notes, *_notes(recipes, head, off)]
    return ConversionPlan(sizes.config, tuple(recipes), head, dropped, tuple(notes), tuple(sources), sizes.lora_scaling)


@dataclass(eq=False)
class _Found:
    """All tensors by normalised name, the first source that has one winning."""

    tensors: dict[str, Piece] = field(default_factory=dict)
    lora: dict[str, Piece] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def collect(cls, sources: Iterable[TensorSource]) -> _Found:
        found = cls()
        for source in sources:
            prefix = _SAM_PREFIX if source.title == "SAM 2.1" else ""
            seen: dict[str, str] = {}
            for raw, stored in source.tensors.items():
                name = normalise(prefix + raw)
                if name in seen:
                    raise CheckpointError(f'Each tensor must stand once; "{seen[name]}" and "{raw}" are the same one.')
                seen[name] = raw
                (found.lora if ".lora_" in name else found.tensors).setdefault(name, Piece(source.title, stored))
            if sum(raw.startswith("module.") for raw in source.tensors):
                found.notes.append(f'{source.title}: names begin with "module."; taken off.')
            if any(".base_layer." in raw for raw in source.tensors):
                found.notes.append(f'{source.title}: "base_layer" names of a newer peft; read as the published ones.')
        return found


def _expected_shapes(config: VirstConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = VirstModel(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _assign(
    tensors: Mapping[str, Piece], expected: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[Piece, ...]], dict[str, str], list[str]]:
    rows: dict[str, dict[int, Piece]] = defaultdict(dict)
    dropped: dict[str, str] = {}
    unknown, surplus = [], []
    for name, piece in tensors.items():
        place = place_of(name)
        if place is None:
            unknown.append(f"{piece.stored.name} ({piece.source})")
        elif place.dropped_because is not None:
            dropped[name] = place.dropped_because
        elif not all(target in expected for target in place.targets):
            surplus.append(f"{piece.stored.name} ({piece.source})")
        else:
            for target in place.targets:
                rows[target][place.row or 0] = piece
    _refuse("Every name must stand in the table of the published model", unknown, "give the authors' files")
    return {target: tuple(of[row] for row in sorted(of)) for target, of in rows.items()}, dropped, surplus


def _missing(pieces: Mapping[str, tuple[Piece, ...]], expected: Mapping[str, tuple[int, ...]]) -> set[str]:
    missing = expected.keys() - pieces.keys()
    num_points = expected[POINT_EMBEDDING][0]
    return missing | ({POINT_EMBEDDING} if len(pieces.get(POINT_EMBEDDING, ())) < num_points else set())


def _pair_lora(matrices: Mapping[str, Piece], rank: int) -> dict[str, tuple[Piece, Piece]]:
    """Pair A and B by the weight of ours that they belong to."""
    pairs: dict[str, tuple[Piece, Piece]] = {}
    lonely, unknown, wrong = [], [], []
    for name, piece in matrices.items():
        a_name, b_name = (re.sub(r"\.lora_[AB]\.", f".lora_{letter}.", name) for letter in "AB")
        place = place_of(name.split(".lora_")[0] + ".weight")
        if not (a_name in matrices and b_name in matrices):
            lonely.append(piece.stored.name)
        elif place is None or len(place.targets) != 1:
            unknown.append(piece.stored.name)
        elif place.targets[0] in pairs and pairs[place.targets[0]][0] is not matrices[a_name]:
            unknown.append(f"{piece.stored.name} (a second adapter)")
        elif place.targets[0] not in pairs:
            pairs[place.targets[0]] = matrices[a_name], matrices[b_name]
            found_rank = matrices[a_name].stored.shape[0]
            wrong += [f"{piece.stored.name} has rank {found_rank}, not {rank}"] if found_rank != rank else []
    _refuse("Every LoRA matrix must have its partner", lonely, "the file is incomplete; download it again")
    _refuse("Every name must stand in the table of the published model", unknown, "give the authors' files")
    _refuse("LoRA must have the rank that its scale is known for", wrong, "give rank and alpha by --config")
    return pairs


def _shape_problems(recipe: Recipe) -> list[str]:
    if not recipe.pieces:
        return []
    shapes = [piece.stored.shape for piece in recipe.pieces]
    rows = sum(shape[0] for shape in shapes) if shapes[0] else 0
    found = (rows, *shapes[0][1:]) if shapes[0] else ()
    name, wanted = recipe.slot.name, recipe.slot.shape
    # The released loader cuts the base model's padded vocabulary down to its own, so more rows are right here alone.
    fits = found == wanted or (name.endswith("embed_tokens.weight") and rows > wanted[0] and found[1:] == wanted[1:])
    problems = [] if fits else [f"{recipe.pieces[0].stored.name} has {found}, not {wanted}"]
    if recipe.lora:
        (a, b), (outputs, inputs) = (piece.stored for piece in recipe.lora), wanted
        if (b.shape[0], a.shape[1]) != (outputs, inputs) or a.shape[0] != b.shape[1]:
            problems.append(f"{a.name} and its partner have {a.shape} and {b.shape}, for a weight of {wanted}")
    return problems


def _head_recipe(piece: Piece | None, config: VirstConfig, dtype: torch.dtype) -> Recipe | None:
    if piece is None:
        return None
    recipe = Recipe(Slot(HEAD, (config.text_config.vocab_size, config.text_config.hidden_size), dtype), (piece,))
    if piece.stored.shape[0] < recipe.slot.shape[0] or piece.stored.shape[1:] != recipe.slot.shape[1:]:
        problem = f"{piece.stored.name} has {piece.stored.shape}, not {recipe.slot.shape}"
        _refuse("Every tensor must have the shape that the sizes ask for", [problem], "give its sizes by --config")
    return recipe


def _notes(recipes: Iterable[Recipe], head: Recipe | None, off: set[str]) -> list[str]:
    notes = []
    if not any(recipe.lora for recipe in recipes):
        notes.append("No source has LoRA matrices: the language model's weights are taken as they are.")
    for recipe in recipes:
        num_rows = sum(piece.stored.shape[0] for piece in recipe.pieces if piece.stored.shape)
        if recipe.slot.shape and num_rows > recipe.slot.shape[0]:
            source = recipe.pieces[0].source
            notes.append(f"{source}: the first {recipe.slot.shape[0]} of {num_rows} words are kept, as published.")
    if head is None:
        notes.append("No source has lm_head.weight: masks work, answers in words (explain) do not.")
    if off:
        notes.append("No source has the initial fusion: it is written with gate 0, which does nothing.")
    return notes


def _refuse(rule: str, names: list[str], advice: str) -> None:
    if names:
        shown = ", ".join(names[:_NUM_NAMED]) + (", …" if len(names) > _NUM_NAMED else "")
        raise CheckpointError(f"{rule}; {len(names)} do not: {shown}; {advice}.")


def _refuse_missing(targets: list[str]) -> None:
    if not targets:
        return
    by_group: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        by_group[group_of(target)].append(published_name(target))
    lines = []
    for group, listed in by_group.items():
        names = list(dict.fromkeys(listed))  # two tensors of ours may come of one
        advice = next((option for start, option in _ELSEWHERE.items() if group.startswith(start)), None)
        if group == "initial fusion":
            advice = "or, where all of it is missing, --without-initial-fusion"
        advice = f"; give {advice}" if advice and advice.startswith("--") else f"; {advice}" if advice else ""
        shown = ", ".join(names[:_NUM_NAMED]) + (", …" if len(names) > _NUM_NAMED else "")
        lines.append(f"{group}: {len(names)} ({shown}){advice}")
    raise CheckpointError(
        "Every tensor of the model must be in one of the files; missing are\n  " + "\n  ".join(lines) + "\n"
        "The checkpoint may be partial (its loader accepts that) or damaged; the authors' other files fill the rest."
    )
