"""``convert``, and what is done with its folder, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch
from fixtures.frames import draw_moving_disc
from fixtures.published import CONFIG, save_checkpoint, save_parts, save_tokenizer
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.errors import CheckpointError, QueryError

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def conversion(folder, tmp_path_factory):
    files = tmp_path_factory.mktemp("files")
    checkpoint, tokenizer = save_checkpoint(files / "virst.pt"), save_tokenizer(files / "words")
    words = ["convert", checkpoint, folder / "model", "--config", CONFIG, "--tokenizer", tokenizer]
    return runner.invoke(main.app, [*map(str, words)])


@pytest.fixture
def stack(tmp_path):
    video = draw_moving_disc(6, (40, 56), 7)
    tifffile.imwrite(tmp_path / "disc.tif", video.pixels[..., 0], metadata={"axes": "TYX"})
    return tmp_path / "disc.tif"


def test_convert_says_what_came_from_where(conversion):
    assert conversion.exit_code == 0, conversion.output
    for said in ("LoRA, merged", "video tower", "checkpoint", "bf16", "occ_predictor"):
        assert said in conversion.output


def test_converted_folder_segments(conversion, folder, stack, tmp_path):
    words = ["segment", stack, "word1 word2", "-o", tmp_path / "out", "--model", folder / "model", "--device", "cpu"]
    result = runner.invoke(main.app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    labels = tifffile.imread(tmp_path / "out" / "word1-word2.tif")
    assert labels.shape == (6, 40, 56)
    assert labels.dtype == np.uint16


def test_converted_folder_explains(conversion, folder, stack):
    words = ["explain", stack, "word1?", "--model", folder / "model", "--device", "cpu", "--json"]
    result = runner.invoke(main.app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["answer"]


def test_bundled_kind_of_model_has_no_words_to_answer_with(stack, tiny_model_folder):
    result = runner.invoke(main.app, ["explain", str(stack), "what?", "--model", str(tiny_model_folder)])
    assert isinstance(result.exception, QueryError)


def test_info_reads_sizes_alone(conversion, folder, tmp_path):
    for name in ("config.json",):
        (tmp_path / name).write_bytes((folder / "model" / name).read_bytes())
    facts = json.loads(runner.invoke(main.app, ["info", "--model", str(tmp_path), "--json"]).stdout)
    assert facts["model"]["memory_readout"] == "attention"
    assert facts["full_model_fits"].startswith("needs 17")


def test_json_report_names_sources(tmp_path):
    partial, base, sam2 = save_parts(tmp_path)
    words = ["convert", partial, tmp_path / "out", "--base", base, "--sam2", sam2, "--config", CONFIG, "--json"]
    report = json.loads(runner.invoke(main.app, [*map(str, words)]).stdout)
    assert report["groups"]["prompter"] == {"checkpoint": 54}
    assert report["groups"]["video tower"] == {"base model": 43}
    assert not report["has_words"]


@pytest.mark.parametrize("kind", ["partial", "damaged", "foreign"])
def test_unusable_checkpoints_are_explained(tmp_path, kind):
    path = tmp_path / "virst.pt"
    if kind == "partial":
        path, _, _ = save_parts(tmp_path)
    elif kind == "damaged":
        save_checkpoint(path)
        path.write_bytes(path.read_bytes()[:100_000])
    else:
        torch.save({"model_state_dict": {"bert.weight": torch.zeros(3)}}, path)
    result = runner.invoke(main.app, ["convert", str(path), str(tmp_path / "out"), "--config", str(CONFIG)])
    assert isinstance(result.exception, CheckpointError)
    assert not (tmp_path / "out").exists()
