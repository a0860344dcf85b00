"""Files of tensors, opened without running code that may be in them and read one tensor at a time."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from napari_virst.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

_ZIP_MAGIC, _PICKLE_MAGIC = b"PK", b"\x80"
_TORCH_ADVICE = ("Weights only load failed", "Please file an issue", "Check the documentation")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor that lies in a file; ``read`` brings it into memory."""

    name: str
    """As in the file."""
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class TensorSource:
    """The tensors of one file, or of a folder of files."""

    title: str
    """What a report calls it, e.g. ``"checkpoint"``."""
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    """By name in the file."""

    @property
    def fingerprint(self) -> list[list[str | int]]:
        """Name, size and time of change of every file."""
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in self.files]


def open_checkpoint(path: Path) -> TensorSource:
    """Open the authors' checkpoint, ``{"model_state_dict": {…}}``.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, unsafe, or another kind of file.
    """
    content = load_torch_file(path)
    if "model_state_dict" not in content and isinstance(content.get("model"), dict):
        raise CheckpointError(
            f'"{path}" must hold a "model_state_dict"; it holds a "model" as the files of SAM 2.1 do; give the '
            "authors' checkpoint, and this file by --sam2."
        )
    return _of_state("checkpoint", path, content.get("model_state_dict"), "model_state_dict")


def open_sam2(path: Path) -> TensorSource:
    """Open a published SAM 2.1 file, ``{"model": {…}}``, or a folder that holds one.

    Raises
    ------
    CheckpointError
        See :func:`open_checkpoint`.
    """
    if path.is_dir():
        found = sorted(path.glob("*.pt"))
        if len(found) != 1:
            raise CheckpointError(
                f'"{path}" must hold one SAM 2.1 file (*.pt); got {len(found)}; give the file itself by --sam2.'
            )
        path = found[0]
    return _of_state("SAM 2.1", path, load_torch_file(path).get("model"), "model")


def open_base(folder: Path) -> TensorSource:
    """Open the base model, a Hugging Face folder of ``*.safetensors`` or, where there are none, ``*.bin`` files.

    Raises
    ------
    CheckpointError
        When there are no such files, one is damaged or unsafe, or a name stands in two of them.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise CheckpointError(
            f'The base model in "{folder}" must be *.safetensors or *.bin files; there are none; '
            "give the folder that holds them."
        )
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        part = _safetensors(path) if path.suffix == ".safetensors" else _of_dict(path, load_torch_file(path))
        if twice := tensors.keys() & part.keys():
            raise CheckpointError(
                f'Each name must stand once in "{folder}"; {min(twice)} stands twice; '
                "remove the files that do not belong to the base model."
            )
        tensors |= part
    return TensorSource("base model", tuple(files), tensors)


def load_torch_file(path: Path) -> dict[str, Any]:
    """Read what ``torch.save`` wrote: tensors mapped from the file, plain values, and nothing that runs.

    Raises
    ------
    CheckpointError
        When the file is missing, cut off, no PyTorch file, or would run code.
    """
    if not path.is_file():
        raise CheckpointError(f'A checkpoint must be a file; "{path}" is none; check the path.')
    with path.open("rb") as file:
        magic = file.read(2)
    is_zip = zipfile.is_zipfile(path)
    if magic == _ZIP_MAGIC and not is_zip:
        raise CheckpointError(f'"{path}" must be a whole file; its end is missing; download it again.')
    if not magic:
        raise CheckpointError(f'"{path}" must be a PyTorch checkpoint; it is empty; download it again.')
    if not is_zip and magic[:1] != _PICKLE_MAGIC:
        raise CheckpointError(f'"{path}" must be a PyTorch checkpoint; it is another kind of file.')
    try:
        with warnings.catch_warnings():
            # What torch says of another pickle protocol; whether it can be read shows right after.
            warnings.simplefilter("ignore", UserWarning)
            # Files older than torch 1.6 are not zip files and cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'"{path}" must hold tensors alone; it asks for more and was not run: {_first_line(error)}'
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, … on a damaged file
        raise CheckpointError(
            f'"{path}" must be a whole PyTorch file; it cannot be read: {_first_line(error)}; download it again.'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f'"{path}" must hold a dictionary of tensors; it holds a {type(content).__name__}.')
    return content


def _first_line(error: BaseException) -> str:
    """Torch's own advice, how to run the code after all, stays out of our message."""
    said = str(error).split("WeightsUnpickler error:")[-1]
    lines = (line.strip() for line in said.splitlines())
    telling = next((line for line in lines if line and not line.startswith(_TORCH_ADVICE)), type(error).__name__)
    return telling.split(" was not an allowed global")[0][:200]


def _of_state(title: str, path: Path, state: object, key: str) -> TensorSource:
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f'"{path}" must hold a "{key}"; it does not; give the file of the {title}.')
    return TensorSource(title, (path,), _of_dict(path, state))


def _of_dict(path: Path, state: dict[str, Any]) -> dict[str, StoredTensor]:
    if strange := [name for name, value in state.items() if not isinstance(value, torch.Tensor)]:
        raise CheckpointError(f'"{path}" must hold tensors alone; "{strange[0]}" is none.')
    return {name: StoredTensor(name, tuple(value.shape), lambda v=value: v) for name, value in state.items()}  # type: ignore[misc]


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        opened = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'"{path}" must be a whole safetensors file; it cannot be read: {error}') from error

    def reader(name: str) -> Callable[[], Tensor]:
        return lambda: opened.get_tensor(name)

    names: Iterable[str] = opened.keys()
    return {name: StoredTensor(name, tuple(opened.get_slice(name).get_shape()), reader(name)) for name in names}


def local_path(where: str | Path, *, patterns: list[str]) -> Path:
    """Return a file or folder on this computer; ``owner/name`` that is neither is downloaded from Hugging Face.

    Raises
    ------
    CheckpointError
        When it is neither here nor there.
    """
    path = Path(where).expanduser()
    if path.exists():
        return path
    if not is_hub_id(str(where)):
        raise CheckpointError(f'"{where}" must be a file or folder, or owner/name on Hugging Face; check the path.')
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(where), allow_patterns=patterns))
    except Exception as error:  # the hub client has one error per thing that can go wrong in a network
        raise CheckpointError(
            f'"{where}" must be a file, a folder or a model on Hugging Face that can be reached: '
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def is_hub_id(text: str) -> bool:
    """Whether ``text`` looks like owner/name and not like a path of this computer."""
    owner, _, name = text.partition("/")
    return bool(owner and name) and "/" not in name and not owner.startswith((".", "~")) and not Path(owner).exists()
