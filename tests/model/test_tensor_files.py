"""Files are opened without running what may be in them, and say what is wrong with them."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from napari_virst.errors import CheckpointError
from napari_virst.model import tensor_files
from napari_virst.model.tensor_files import is_hub_id, local_path, open_base, open_checkpoint, open_sam2


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older-format"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, is_zip):
    content = {"model_state_dict": {"a": torch.zeros(2)}, "extra": Bomb(tmp_path / "exploded")}
    torch.save(content, tmp_path / "bomb.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match="was not run") as said:
        open_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()
    assert "mkdir" in str(said.value)
    assert "weights_only" not in str(said.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_bare_pickle_is_refused_in_our_words(tmp_path, protocol, recwarn):
    """Newer protocols stop torch before it comes to the code; its advice how to run it is never passed on."""
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"a": Bomb(tmp_path / "exploded")}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"was not run: \w+") as said:
        open_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()
    assert "eights" not in str(said.value)
    assert not [warning for warning in recwarn if "pickle protocol" in str(warning.message)]


def test_code_in_the_base_model_is_refused_too(tmp_path):
    torch.save({"a": Bomb(tmp_path / "exploded")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="was not run"):
        open_base(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older-format"])
def test_cut_off_file_is_told_apart(tmp_path, is_zip):
    torch.save({"model_state_dict": {"a": torch.zeros(1000)}}, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="must be a whole"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>", "another kind of file"),
        (b"version https://git-lfs.github.com/spec/v1", "another kind of file"),
        (b"", "it is empty"),
    ],
    ids=["web-page", "lfs-pointer", "empty"],
)
def test_what_is_no_checkpoint_is_told_apart(tmp_path, content, said):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state": {}}, "model_state_dict"),
        ({"model": {"a": torch.zeros(1)}}, "--sam2"),
        ({"model_state_dict": {"a": 3}}, '"a" is none'),
        ([1, 2], "holds a list"),
    ],
    ids=["no-state", "sam2-file", "no-tensor", "no-dictionary"],
)
def test_foreign_checkpoint_is_told_apart(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(tmp_path / "a.pt")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        open_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="there are none"):
        open_base(tmp_path)
    with pytest.raises(CheckpointError, match="got 0"):
        open_sam2(tmp_path)
    with pytest.raises(CheckpointError, match="check the path"):
        local_path(tmp_path / "a" / "b" / "c", patterns=[])


def test_base_model_is_read_from_all_its_files(tmp_path):
    save_file({"a": torch.arange(3.0)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.arange(4.0)}, tmp_path / "model-2.safetensors")
    source = open_base(tmp_path)
    assert {name: stored.shape for name, stored in source.tensors.items()} == {"a": (3,), "b": (4,)}
    torch.testing.assert_close(source.tensors["b"].read(), torch.arange(4.0))


def test_name_in_two_files_of_the_base_model_is_refused(tmp_path):
    for name in ("1.safetensors", "2.safetensors"):
        save_file({"a": torch.arange(3.0)}, tmp_path / name)
    with pytest.raises(CheckpointError, match="a stands twice"):
        open_base(tmp_path)


def test_cut_off_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.arange(300.0)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="whole safetensors file"):
        open_base(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("owner/name", True), ("./name", False), ("/abs/name", False), ("a/b/c", False), ("name", False)],
)
def test_hub_id_is_owner_and_name(text, expected):
    assert is_hub_id(text) is expected


def test_unreachable_hub_is_one_sentence(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="OSError: no network"):
        tensor_files.local_path("nobody/nothing", patterns=["*"])
