from __future__ import annotations

import csv
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from napari_virst.cli.main import app
from napari_virst.cli.train import stopped_by_ctrl_c
from napari_virst.errors import InputError


def invoke(*arguments):
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_smoke_recipe_lowers_the_loss_and_writes_a_model(tmp_path):
    out = tmp_path / "run"
    invoke("smoke", "--out", out, "--export", tmp_path / "model", "--device", "cpu", "--num-threads", 1)
    with (out / "metrics.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["lesson"] == "ground"]
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert (tmp_path / "model" / "model.safetensors").is_file()
    with pytest.raises(InputError, match="add --resume"):
        invoke("smoke", "--out", out)
    invoke("smoke", "--out", out, "--resume", "--device", "cpu")


def test_unknown_recipe_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"compact_cpu, finetune, full_lora, smoke; got \"big\"; choose"):
        invoke("big", "--out", tmp_path)


@pytest.mark.parametrize("option", ["--out", "--export"])
def test_folder_that_cannot_be_made_is_refused_before_anything_is_trained(tmp_path, option):
    (tmp_path / "file").touch()
    out = [] if option == "--out" else ["--out", tmp_path / "run"]
    with pytest.raises(InputError, match=f"{option} must be a folder"):
        invoke("smoke", *out, option, tmp_path / "file" / "inside")
    assert not (tmp_path / "run").exists()


def test_unknown_precision_is_explained_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"one of auto, fp32, bf16; got \"int8\"; choose one"):
        invoke("smoke", "--out", tmp_path / "run", "--device", "cpu", "--precision", "int8")


def test_data_that_is_not_there_is_explained_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"meta_expressions\.json"):
        invoke("finetune", "--out", tmp_path / "run", "--from", "compact", "--data", tmp_path, "--dataset", "mevis")
    assert not (tmp_path / "run").exists()


def test_stopped_training_says_so_once_and_how_to_go_on(monkeypatch, tmp_path):
    class Trainer:
        step, recipe, devices = 3, SimpleNamespace(num_steps=9), SimpleNamespace(num_processes=1)

        def train(self, should_stop):
            pass

    @contextmanager
    def pressed(_):
        yield lambda: True

    monkeypatch.setattr("napari_virst.training.recipes.open_run", lambda *_, **__: Trainer())
    monkeypatch.setattr("napari_virst.cli.train.stopped_by_ctrl_c", pressed)
    result = invoke("smoke", "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 130
    assert result.stderr.count("Stopped") == 1
    assert "--resume goes on" in result.stderr


@pytest.fixture
def listens_to_ctrl_c():
    """Have Ctrl+C interrupt, also where the tests themselves run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_is_noted_once_and_then_works_as_ever():
    before = signal.getsignal(signal.SIGINT)
    with stopped_by_ctrl_c() as is_pressed:
        assert not is_pressed()
        signal.raise_signal(signal.SIGINT)
        assert is_pressed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
