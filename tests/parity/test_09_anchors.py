"""Stage 9: which frames become anchors, and which anchors a frame reads. Everything here must be equal."""

from __future__ import annotations

import json

import pytest
from fixtures.recorded_runs import follow

from napari_virst.model.anchors import select_anchors, spread_anchors

pytestmark = pytest.mark.parity


def test_anchor_positions(any_recording):
    positions = spread_anchors(len(any_recording.segmentation_frames))
    assert list(positions) == any_recording.array("cond_idx").tolist()


def test_anchor_frames(recording):
    frames = [recording.segmentation_frames[p] for p in spread_anchors(len(recording.segmentation_frames))]
    assert frames == recording.array("cond_frames").tolist()


def test_frames_decoded_as_anchors(run):
    is_anchor = run.recording.array(f"{run.prefix}_is_cond")
    assert sorted(follow(run).anchors) == is_anchor.nonzero()[:, 0].tolist()


def test_anchors_read_by_each_frame(recording):
    report = recording.folder / "report.json"
    cases = json.loads(report.read_text()).get("select_closest", []) if report.exists() else []
    if not cases:
        pytest.skip(f"{recording.name} lists no choices of anchors")
    limit = recording.config["sam2"]["max_cond_frames_in_attn"]
    for frame, chosen, others in cases:
        assert set(select_anchors(frame, [*chosen, *others], limit)) == set(chosen), frame


def test_anchors_by_number_of_segmentation_frames(official_tables):
    for num_frames, expected in official_tables["select_keyframes_eval"].items():
        assert list(spread_anchors(int(num_frames))) == expected, num_frames


def test_published_choices_of_anchors(official_tables):
    for case in official_tables["select_closest_cond_frames"]:
        chosen = select_anchors(case["frame"], case["cond"], case["max"])
        assert set(chosen) == set(case["selected_in_order"]), case
