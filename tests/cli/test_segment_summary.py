"""What is printed of a run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from napari_virst.cli.segment_summary import Summary, TrackSummary, _spans, show


def test_no_name_is_cut_off_however_long(capsys):
    name = "-".join(["the-cell-that-moves-left"] * 3) + ".tif"
    track = TrackSummary("q" * 90, name, 4, 4, ((0, 4),), 4, 0, 3, (), 1.0, False, (), 1.0, 4.0)
    summary = Summary("video", "/v.mp4", (4, 8, 9), "compact", "cpu", tracks=(track,))
    show(summary, Path("a/rather/long/folder") / ("n" * 80))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert name in printed, "a script finds the file by its name"
    assert f"a/rather/long/folder/{'n' * 80}" in printed


@given(st.sets(st.integers(0, 30)))
def test_spans_hold_the_frames_done_and_no_other(frames):
    spans = _spans(sorted(frames))
    assert {frame for start, stop in spans for frame in range(start, stop)} == frames
    assert all(start < stop < following for (start, stop), (following, _) in pairwise(spans))
