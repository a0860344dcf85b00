"""What is printed of a run."""

from __future__ import annotations

from pathlib import Path

from napari_virst.cli.segment_summary import Summary, TrackSummary, show


def test_no_name_is_cut_off_however_long(capsys):
    name = "-".join(["the-cell-that-moves-left"] * 3) + ".tif"
    track = TrackSummary("q" * 90, name, 4, 4, 4, 0, 3, (), 1.0, False, (), 1.0, 4.0)
    summary = Summary("video", "/v.mp4", (4, 8, 9), "compact", "cpu", tracks=(track,))
    show(summary, Path("a/rather/long/folder") / ("n" * 80))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert name in printed, "a script finds the file by its name"
    assert f"a/rather/long/folder/{'n' * 80}" in printed
