"""Turns a published checkpoint into a model folder: planned whole, then written tensor by tensor."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_virst.errors import CheckpointError, DeviceError, VirstError
from napari_virst.model.conversion import HEAD, HEAD_FILE, plan_conversion
from napari_virst.model.processing import VirstProcessor
from napari_virst.model.published_config import PublishedSizes
from napari_virst.model.shards import cut_into_shards, holds, write_shard
from napari_virst.model.tensor_files import local_path, open_base, open_checkpoint, open_sam2

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

    from napari_virst.model.config import VirstConfig
    from napari_virst.model.conversion import ConversionPlan
    from napari_virst.model.shards import Slot

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SHARD_BYTES = 2_000_000_000
REPORT_FILE = "conversion.json"
INDEX_FILE = "model.safetensors.index.json"
NO_WORDS = (
    "No tokenizer was given: text queries will not work with this folder, only masks that you give. "
    "Convert again with --tokenizer (the folder of the base model has one); finished files are kept."
)


@dataclass(frozen=True)
class ConversionReport:
    """What came from where."""

    groups: dict[str, dict[str, int]]
    """Part of the network to source to number of tensors."""
    files: dict[str, list[str]]
    dropped: dict[str, str]
    """Published name to reason."""
    notes: tuple[str, ...]
    lora_scaling: float
    dtype: str
    num_tensors: int
    num_bytes: int
    num_files: int
    num_files_kept: int
    """Whole files of an interrupted conversion that were not written again."""
    has_words: bool
    has_vocabulary_head: bool


def convert(
    checkpoint: str | Path,
    out: Path,
    *,
    base: str | Path | None = None,
    sam2: str | Path | None = None,
    tokenizer: str | Path | None = None,
    config: Path | None = None,
    dtype: str = "bf16",
    without_initial_fusion: bool = False,
    shard_bytes: int = SHARD_BYTES,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> ConversionReport:
    """Write a model folder that :meth:`VirstModel.from_pretrained` loads.

    Nothing is written before everything is known to be there. A conversion that was stopped goes on where it was when
    it is started again with the same files.

    Parameters
    ----------
    checkpoint
        The authors' file; no code in it is run.
    out
        Folder to write; new, empty, or of the same conversion.
    base, sam2
        What the checkpoint may lack: the base model's folder (or owner/name on Hugging Face), and SAM 2.1's file.
    tokenizer
        Folder, owner/name, or ``tokenizer.json``. Without it the model cannot read text queries.
    config
        Sizes as JSON, in the layout of ``official_config.json``; those of the published model where None.
    dtype
        ``"bf16"``, ``"fp16"`` or ``"fp32"``.
    without_initial_fusion
        Accept files that lack the first fusion, which is off in the published evaluation.
    shard_bytes
        Most bytes of a file.
    on_progress
        Called with the bytes done and the bytes of all.

    Raises
    ------
    CheckpointError
        When a file is missing, damaged, unsafe or foreign, or a tensor is missing, unknown or of a wrong shape.
    DeviceError
        When the disk has too little room.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f'dtype must be one of {", ".join(DTYPES)}; got "{dtype}"; choose one.')
    sizes = PublishedSizes.official() if config is None else PublishedSizes.read(config)
    sources = [open_checkpoint(Path(checkpoint).expanduser())]
    if base is not None:
        sources.append(open_base(local_path(base, patterns=["*.safetensors", "*.bin", "*.json"])))
    if sam2 is not None:
        sources.append(open_sam2(local_path(sam2, patterns=["*.pt"])))
    plan = plan_conversion(sources, sizes, DTYPES[dtype], without_initial_fusion=without_initial_fusion)
    processor = None if tokenizer is None else open_processor(plan.config, tokenizer)
    files = _Files.of(plan, shard_bytes)
    kept = files.prepare(out)
    files.write(out, kept, on_progress)
    _write_companions(out, plan, files, DTYPES[dtype], processor)
    report = _report(plan, files, len(kept), dtype, processor is not None)
    _write_json(out / REPORT_FILE, asdict(report))
    return report


def open_processor(config: VirstConfig, tokenizer: str | Path) -> VirstProcessor:
    """Return the processor of a published model with a tokenizer from a folder, a file or Hugging Face.

    Raises
    ------
    CheckpointError
        When there is no tokenizer, or it is not the one of this model.
    """
    path = local_path(tokenizer, patterns=["tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json"])
    try:
        return VirstProcessor.from_config(config, _read_tokenizer(path))
    except VirstError as error:
        raise CheckpointError(f'The tokenizer in "{tokenizer}" is not this model\'s: {error}') from error
    except Exception as error:  # the tokenizers library raises plain Exception on a damaged file
        raise CheckpointError(f'The tokenizer in "{tokenizer}" cannot be read: {error}') from error


def _read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if path.is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="<|endoftext|>", padding_side="right")
    opened: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    return opened


@dataclass(frozen=True, eq=False)
class _Files:
    """The weight files of a plan: which tensors lie where, and what marks them as made from these very files."""

    plan: ConversionPlan
    slots: dict[str, list[Slot]]
    """File name to tensors."""

    @classmethod
    def of(cls, plan: ConversionPlan, shard_bytes: int) -> _Files:
        shards = cut_into_shards([recipe.slot for recipe in plan.recipes], shard_bytes)
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
        head = {HEAD_FILE: [plan.head.slot]} if plan.head else {}
        return cls(plan, dict(zip(names, shards, strict=True)) | head)

    def mark(self, name: str) -> dict[str, str]:
        """Header text that only the same file of the same conversion has."""
        tensors = [[slot.name, list(slot.shape), str(slot.dtype)] for slot in self.slots[name]]
        made_of = [tensors, [source.fingerprint for source in self.plan.sources], self.plan.scaling]
        return {"made_of": sha256(json.dumps(made_of).encode()).hexdigest()}

    def num_bytes(self, name: str) -> int:
        return sum(slot.num_bytes for slot in self.slots[name])

    def prepare(self, out: Path) -> set[str]:
        """Make the folder; return the names of the files that are already whole."""
        if out.exists() and not out.is_dir():
            raise CheckpointError(f'OUT must be a folder; "{out}" is a file; choose another name.')
        foreign = [p.name for p in out.glob("*.safetensors") if p.name not in self.slots] if out.exists() else []
        if foreign:
            raise CheckpointError(
                f'OUT must be new, empty, or of this conversion; "{out}" holds {min(foreign)}; choose another folder.'
            )
        kept = {name for name, slots in self.slots.items() if holds(out / name, slots, self.mark(name))}
        needed = sum(self.num_bytes(name) for name in self.slots if name not in kept)
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
        if needed > free:
            raise DeviceError(
                f"The disk must have {needed / 1e9:.1f} GB free for the converted model; it has {free / 1e9:.1f} GB; "
                "free some, or choose another folder."
            )
        return kept

    def write(self, out: Path, kept: set[str], on_progress: Callable[[int, int], None]) -> None:
        everything = (*self.plan.recipes, *([self.plan.head] if self.plan.head else []))
        recipes = {recipe.slot.name: recipe for recipe in everything}
        done, total = sum(map(self.num_bytes, kept)), self.plan.num_bytes
        on_progress(done, total)

        def advance(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            on_progress(done, total)

        for name, slots in self.slots.items():
            if name not in kept:
                write_shard(out / name, slots, lambda n: recipes[n].compute(), self.mark(name), advance)


def _write_companions(
    out: Path, plan: ConversionPlan, files: _Files, dtype: torch.dtype, processor: VirstProcessor | None
) -> None:
    """Write what makes a folder of weights a model: only now can it be loaded."""
    shards = {name: slots for name, slots in files.slots.items() if name != HEAD_FILE}
    weight_map = {slot.name: name for name, slots in shards.items() for slot in slots}
    total_size = sum(map(files.num_bytes, shards))
    if processor is not None:
        processor.save_pretrained(out)
    _write_json(out / INDEX_FILE, {"metadata": {"total_size": total_size}, "weight_map": weight_map})
    plan.config.architectures = ["VirstModel"]
    plan.config.dtype = dtype
    plan.config.save_pretrained(out)


def _report(plan: ConversionPlan, files: _Files, num_kept: int, dtype: str, has_words: bool) -> ConversionReport:
    return ConversionReport(
        groups=plan.groups,
        files={source.title: [path.name for path in source.files] for source in plan.sources},
        dropped={name: reason for name, reason in plan.dropped.items() if name != HEAD},
        notes=(*plan.notes, *(() if has_words else (NO_WORDS,))),
        lora_scaling=plan.scaling,
        dtype=dtype,
        num_tensors=len(plan.recipes) + (plan.head is not None),
        num_bytes=plan.num_bytes,
        num_files=len(files.slots),
        num_files_kept=num_kept,
        has_words=has_words,
        has_vocabulary_head=plan.head is not None,
    )


def _write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
