"""All stages at once, as a user types them: ``convert`` the checkpoint, ``segment`` the video.

Of the recorded cases ``dupprompt`` cannot be typed: two prompts on one frame come of a one-frame video alone, and the
recorded ones are those of two frames. ``maskcase`` and ``maskempty`` can be where their prompts stand on the very
frames that language gives them for.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from fixtures.command_line import (
    EXPRESSION,
    checkpoint_of,
    save_frame_sample,
    save_frames,
    save_recorded_tokenizer,
    words_of_case,
)
from typer.testing import CliRunner

from napari_virst.cli import main
from napari_virst.engine.loading import load_model

pytestmark = pytest.mark.parity
MAX_ROUNDED_PIXELS = 10  # see test_11_masks.py


@pytest.fixture(scope="session")
def typed(recording, tmp_path_factory):
    """``convert`` was run on the recording; returns the model folder, the folder of frames and the command's result."""
    folder = tmp_path_factory.mktemp(recording.name)
    tokenizer = save_recorded_tokenizer(recording, folder / "tokenizer")
    words = ["convert", checkpoint_of(recording, folder), folder / "model", "--tokenizer", tokenizer]
    words += ["--config", recording.source / "config.json", "--dtype", "fp32"]
    result = CliRunner().invoke(main.app, [*map(str, words)])
    return folder / "model", save_frames(recording, folder / "frames"), result


def segment(recording, model, frames, case, out):
    """Return the labels (T, H, W) that ``segment`` wrote."""
    words = ["segment", frames, EXPRESSION, "-o", out, "--model", model, "--preset", "reference", "--device", "cpu"]
    words += ["--frames-sampled", save_frame_sample(recording), *words_of_case(recording, case, out.parent)]
    result = CliRunner().invoke(main.app, [*map(str, words)])
    assert result.exit_code == 0, (result.output, result.exception)
    return tifffile.imread(out / "the-red-circle.tif")


def recorded_masks(recording, prefix):
    """(T, H, W) bool; the test is skipped where the recording lacks the case."""
    num_frames, height, width, _ = recording.video.shape
    packed = recording.array(f"{prefix}_video_masks_packed").numpy()
    return np.unpackbits(packed, axis=1)[:, : height * width].reshape(num_frames, height, width).astype(bool)


def test_converted_tokenizer_gives_the_recorded_ids(recording, typed):
    model, _, result = typed
    assert result.exit_code == 0, (result.output, result.exception)
    _, processor, _ = load_model(model)
    assert processor.text_ids(EXPRESSION).input_ids.tolist() == recording.input_ids.tolist()


@pytest.mark.parametrize("case", ["fusion", "nofusion", "maskcase", "maskempty"])
def test_convert_and_segment_give_the_recorded_masks(recording, typed, case, tmp_path):
    expected = recorded_masks(recording, f"{case}_nobf16")
    labels = segment(recording, *typed[:2], case, tmp_path / "out")
    assert np.count_nonzero((labels > 0) != expected) == 0


def test_memory_rounded_as_published_stays_within_the_published_pixels(recording, typed, tmp_path):
    folder, frames, _ = typed
    rounded = tmp_path / "rounded"
    rounded.mkdir()
    for path in folder.iterdir():
        (rounded / path.name).symlink_to(path)
    config = json.loads((folder / "config.json").read_text())
    config["segmenter_config"]["round_memory_to_bf16"] = True
    (rounded / "config.json").unlink()
    (rounded / "config.json").write_text(json.dumps(config))
    expected = recorded_masks(recording, "nofusion")
    labels = segment(recording, rounded, frames, "nofusion", tmp_path / "out")
    assert np.count_nonzero((labels > 0) != expected) <= MAX_ROUNDED_PIXELS
