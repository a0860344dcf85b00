"""From the published layout to a folder that loads and computes the recorded masks."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from fixtures.published import CONFIG, save_checkpoint, save_parts, save_tokenizer
from fixtures.recorded_frames import RecordedFrames, recorded_sample, recorded_words
from fixtures.recordings import SHARED_PARITY, SHIPPED_PARITY, recording_of

from napari_virst.engine import conversion
from napari_virst.engine.conversion import convert
from napari_virst.engine.loading import load_model
from napari_virst.engine.predictor import Predictor, PredictorOptions
from napari_virst.errors import CheckpointError, DeviceError, QueryError
from napari_virst.model.virst import VirstModel
from napari_virst.records import Job, Query, Span

NEVER = lambda: False  # noqa: E731
SMALL_SHARDS = {"config": CONFIG, "shard_bytes": 10_000_000}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("published") / "virst.pt")


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    """In float32, with a tokenizer."""
    folder = tmp_path_factory.mktemp("converted")
    tokenizer = save_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    report = convert(checkpoint, folder, dtype="fp32", tokenizer=tokenizer, **SMALL_SHARDS)
    return folder, report


@pytest.fixture(scope="module")
def half(checkpoint, tmp_path_factory):
    """As converted by default."""
    folder = tmp_path_factory.mktemp("half")
    return folder, convert(checkpoint, folder, config=CONFIG)


def differing_pixels(folder, recording, case):
    """Follow the recorded video with the converted folder, as the published code does."""
    model, _, _ = load_model(folder)
    options = PredictorOptions(
        preset="reference",
        frame_sample=recorded_sample(recording),
        use_initial_fusion=case == "fusion",
        presence_threshold=-1.0,
    )
    video = RecordedFrames(recording)
    num_frames, height, width, _ = video.shape
    predictor = Predictor(model, recorded_words(recording), "converted", options)
    found = np.zeros((num_frames, height, width), bool)
    for result in predictor.run(video, Job(Query("it"), Span(0, num_frames)), NEVER):
        found[result.frame] = result.mask
    packed = recording.array(f"{case}_nobf16_video_masks_packed").numpy()
    expected = np.unpackbits(packed, axis=1)[:, : height * width].reshape(found.shape).astype(bool)
    return np.count_nonzero(found != expected)


@pytest.mark.parametrize("case", ["fusion", "nofusion"])
def test_converted_folder_reproduces_the_recorded_masks(converted, case):
    assert differing_pixels(converted[0], recording_of(SHIPPED_PARITY, SHIPPED_PARITY), case) == 0


@pytest.mark.shared
@pytest.mark.parity
@pytest.mark.parametrize("name", ["dev", "dev_long"])
def test_recorded_checkpoint_file_reproduces_its_masks(tmp_path, name):
    source = SHARED_PARITY / name
    file = next((f / "ckpt_fp16.pt" for f in (source, SHARED_PARITY / "dev") if (f / "ckpt_fp16.pt").exists()), None)
    if file is None:
        pytest.skip("the recorded checkpoint is not beside the repository (shared/parity)")
    convert(file, tmp_path, config=source / "config.json", dtype="fp32")
    assert differing_pixels(tmp_path, recording_of(source, source), "nofusion") == 0


def test_from_pretrained_gives_the_very_weights_and_tables(converted):
    recorded = recording_of(SHIPPED_PARITY, SHIPPED_PARITY).model
    model, report = VirstModel.from_pretrained(converted[0], output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for (name, a), (_, b) in zip(model.state_dict().items(), recorded.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    for (name, a), (_, b) in zip(model.named_buffers(), recorded.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_report_says_what_came_from_where(converted):
    folder, report = converted
    assert json.loads((folder / "conversion.json").read_text())["groups"] == report.groups
    assert report.groups["LoRA, merged"] == {"checkpoint": 28}
    assert report.dropped.keys() == {"model.occ_predictor.weight", "model.occ_predictor.bias"}
    assert report.num_files == len(list(folder.glob("*.safetensors"))) > 3


def test_default_dtype_is_bfloat16_with_tables_in_float32(half):
    model = VirstModel.from_pretrained(half[0])
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} == {torch.float32}


def test_cast_leaves_the_fixed_tables_as_they_are(converted):
    model = VirstModel.from_pretrained(converted[0])
    before = {name: table.clone() for name, table in model.named_buffers()}
    for cast in (lambda: model.to(torch.bfloat16), model.half, model.float):
        cast()
        assert all(torch.equal(before[name], table) for name, table in model.named_buffers())


def test_converting_again_writes_nothing_and_a_lost_file_alone_is_written_again(checkpoint, tmp_path):
    first = convert(checkpoint, tmp_path / "out", **SMALL_SHARDS)
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    content = shards[1].read_bytes()
    shards[1].unlink()
    times = {path: path.stat().st_mtime_ns for path in shards if path != shards[1]}
    again = convert(checkpoint, tmp_path / "out", **SMALL_SHARDS)
    assert (first.num_files_kept, again.num_files_kept) == (0, first.num_files - 1)
    assert shards[1].read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_interrupted_conversion_is_no_model_and_goes_on(checkpoint, tmp_path):
    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, tmp_path, on_progress=stop, **SMALL_SHARDS)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path)
    report = convert(checkpoint, tmp_path, **SMALL_SHARDS)
    assert report.num_files_kept > 0
    assert not list(tmp_path.glob("*.part"))
    load_model(tmp_path)


def test_other_dtype_does_not_reuse_files(checkpoint, tmp_path):
    convert(checkpoint, tmp_path, config=CONFIG)
    assert convert(checkpoint, tmp_path, config=CONFIG, dtype="fp32").num_files_kept == 0


def test_progress_ends_at_all_bytes(checkpoint, tmp_path):
    seen = []
    report = convert(checkpoint, tmp_path, config=CONFIG, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, report.num_bytes)
    assert seen[-1] == (report.num_bytes, report.num_bytes)
    assert seen == sorted(seen)


def test_partial_checkpoint_with_its_companions_equals_the_whole(tmp_path, half):
    partial, base, sam2 = save_parts(tmp_path)
    convert(partial, tmp_path / "out", base=base, sam2=sam2, config=CONFIG)
    a, b = (VirstModel.from_pretrained(folder).state_dict() for folder in (tmp_path / "out", half[0]))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_partial_checkpoint_alone_writes_nothing(tmp_path):
    partial, _, _ = save_parts(tmp_path)
    with pytest.raises(CheckpointError, match="--base"):
        convert(partial, tmp_path / "out", config=CONFIG)
    assert not (tmp_path / "out").exists()


def test_full_disk_is_said_before_anything_is_written(checkpoint, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage(10, 9, 1_000_000))
    with pytest.raises(DeviceError, match=r"0\.0 GB free"):
        convert(checkpoint, tmp_path, config=CONFIG)
    assert not list(tmp_path.iterdir())


def test_folder_of_something_else_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="choose another folder"):
        convert(checkpoint, tmp_path, config=CONFIG)
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"tokenizer": "nowhere/at/all"}], ids=["dtype", "tokenizer"])
def test_wrong_options_are_explained(checkpoint, tmp_path, options):
    with pytest.raises(CheckpointError):
        convert(checkpoint, tmp_path / "out", config=CONFIG, **options)
    assert not (tmp_path / "out").exists()


def test_tokenizer_of_another_model_is_refused(checkpoint, tmp_path, tiny_model_folder):
    with pytest.raises(CheckpointError, match=r"\[SEG\] the id 300"):
        convert(checkpoint, tmp_path / "out", config=CONFIG, tokenizer=tiny_model_folder)


def test_tokenizer_is_kept_and_its_file_alone_will_do(converted, checkpoint, tmp_path):
    folder, report = converted
    assert report.has_words
    _, processor, _ = load_model(folder)
    ids = processor.text_ids("word7").input_ids
    assert (ids == 300).sum() == 10
    assert (ids == -200).sum() == 1
    shutil.copy(folder / "tokenizer.json", tmp_path / "tokenizer.json")
    convert(checkpoint, tmp_path / "out", config=CONFIG, tokenizer=tmp_path / "tokenizer.json")
    _, other, _ = load_model(tmp_path / "out")
    assert torch.equal(other.text_ids("word7").input_ids, ids)


def test_without_tokenizer_masks_work_and_text_says_why_not(half):
    folder, report = half
    assert any("text queries will not work" in note for note in report.notes)
    _, processor, _ = load_model(folder)
    assert processor.sample_frames(9).vlm
    with pytest.raises(QueryError, match="--tokenizer"):
        processor.text_ids("the dog")
