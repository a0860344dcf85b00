from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.benchmarks import NUM_FRAMES, draw_video, write_like_youtube_vos, write_mevis, write_revos
from fixtures.segmenter import DiscSegmenter
from PIL import Image

from napari_virst.errors import InputError, SegmentationError
from napari_virst.evaluation.run import ResultFolder, evaluate_expressions, summarise, write_reports
from napari_virst.io.datasets import open_dataset

pytest.importorskip("pycocotools")
SETTINGS = {"dataset": "mevis", "model": "compact"}


@pytest.fixture
def segmenter():
    return DiscSegmenter(draw_video())


@pytest.fixture
def mevis(tmp_path):
    return open_dataset(write_mevis(tmp_path / "data"), "mevis", "valid_u")


@pytest.fixture
def results(tmp_path):
    return ResultFolder(tmp_path / "out", SETTINGS)


def run(segmenter, dataset, results, expressions=None):
    asked = results.pending(dataset.expressions if expressions is None else expressions)
    scores = []
    for score in evaluate_expressions(segmenter, dataset, asked, results):
        results.append(score)
        scores.append(score)
    return scores


def test_images_are_gray_0_and_255_named_as_the_server_expects(segmenter, mevis, results):
    run(segmenter, mevis, results)
    path = results.path / "Annotations" / "v1" / "0" / "00003.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), draw_video().masks[3] * 255)
    written = {p.name for p in path.parent.iterdir()}
    assert written == {f"{number:05d}.png" for number in range(NUM_FRAMES)}


def test_scores_are_against_the_union_of_the_targets(segmenter, mevis, results):
    """The double finds the whole disc: right for both halves, too much for one, wrong for what is not there."""
    whole, upper, nothing, _ = run(segmenter, mevis, results)
    masks = draw_video().masks
    share = masks[0, :12].sum() / masks[0].sum()
    assert (whole.j, whole.f, whole.num_scored) == (1, 1, NUM_FRAMES)
    assert upper.j == pytest.approx(share, abs=1e-9)
    assert (nothing.j, nothing.f) == (0, 0)


def test_second_run_does_only_what_is_missing(segmenter, mevis, results):
    run(segmenter, mevis, results, mevis.expressions[:1])
    assert len(segmenter.jobs) == 1
    again = ResultFolder(results.path, SETTINGS)
    assert [e.expression_id for e in again.pending(mevis.expressions)] == ["1", "2", "0"]
    run(segmenter, mevis, again)
    assert len(segmenter.jobs) == len(mevis.expressions)
    assert again.pending(mevis.expressions) == []
    assert len(again.scores()) == len(mevis.expressions)


def test_expression_without_one_of_its_images_is_done_again(segmenter, mevis, results):
    run(segmenter, mevis, results)
    results.image(mevis.expressions[1], 2).unlink()
    assert results.pending(mevis.expressions) == [mevis.expressions[1]]


def test_line_cut_off_in_a_crash_costs_only_its_own_expression(segmenter, mevis, results):
    run(segmenter, mevis, results, mevis.expressions[:2])
    lines = results.path / "scores.jsonl"
    lines.write_text(lines.read_text()[:-20])
    assert results.pending(mevis.expressions[:2]) == [mevis.expressions[1]]
    run(segmenter, mevis, results)
    assert results.pending(mevis.expressions) == []


def test_results_of_another_model_are_not_mixed_in(results):
    with pytest.raises(InputError, match="'compact' instead of 'mine'"):
        ResultFolder(results.path, {**SETTINGS, "model": "mine"})


def test_workers_in_another_folder_write_to_the_same_place(tmp_path, monkeypatch, mevis):
    monkeypatch.chdir(tmp_path)
    results = ResultFolder(Path("here"), SETTINGS)
    monkeypatch.chdir("/")
    assert results.image(mevis.expressions[0], 0).is_relative_to(tmp_path / "here")


def test_frame_that_the_model_leaves_out_is_named(mevis, results):
    class Forgetful(DiscSegmenter):
        def run(self, frames, job, should_stop):
            return (result for result in super().run(frames, job, should_stop) if result.frame != 2)

    with pytest.raises(SegmentationError, match="frame 2 of v1"):
        run(Forgetful(draw_video()), mevis, results)


def test_last_answer_to_a_frame_counts(mevis, results):
    class Improving(DiscSegmenter):
        def run(self, frames, job, should_stop):
            for result in super().run(frames, job, should_stop):
                yield type(result)(result.frame, np.zeros_like(result.mask), 0.0, 0.0, result.provenance)
                yield result

    score, *_ = run(Improving(draw_video()), mevis, results, mevis.expressions[:1])
    assert score.j == 1
    assert not score.is_empty


def test_davis_averages_its_four_sets(segmenter, tmp_path, results):
    dataset = open_dataset(write_like_youtube_vos(tmp_path / "davis", "valid", 5), "ref-davis")
    scores = run(segmenter, dataset, results)
    summary = summarise(dataset, scores)
    sets = [summary["groups"][f"set {number}"]["j"] for number in (1, 2, 3, 4)]
    assert summary["groups"]["set 1"]["num_expressions"] == 2
    assert summary["overall"]["j"] == pytest.approx(np.mean(sets), abs=1e-12)
    assert summary["overall"]["j"] != pytest.approx(np.mean([s.j for s in scores]), abs=1e-3)


def test_revos_leaves_hallucinations_out_of_the_mean_and_tells_empty_answers(segmenter, tmp_path, results):
    dataset = open_dataset(write_revos(tmp_path / "revos"), "revos")
    summary = summarise(dataset, run(segmenter, dataset, results))
    expected = (NUM_FRAMES - 1) / NUM_FRAMES  # one frame's truth is empty, and the double finds the disc there
    assert summary["overall"]["j_and_f"] == pytest.approx(expected)
    assert summary["groups"]["hallucination"]["empty_answers"] == 0


def test_revos_tells_robustness_of_every_group(segmenter, tmp_path, results):
    dataset = open_dataset(write_revos(tmp_path / "revos"), "revos")
    referring, reasoning, hallucination = run(segmenter, dataset, results)
    # The double finds the disc on all five frames; on frame 2 its annotation is missing, so that all it says is wrong,
    # and there is no other object to compare with. Nothing is referred to by the last.
    assert referring.r == reasoning.r == pytest.approx(4 / 5)
    assert hallucination.r == 0
    summary = summarise(dataset, [referring, reasoning, hallucination])
    assert summary["overall"]["r"] == pytest.approx(4 / 5)
    assert summary["groups"]["hallucination"]["r"] == 0


def test_other_benchmarks_have_no_robustness(segmenter, mevis, results):
    scores = run(segmenter, mevis, results)
    assert {score.r for score in scores} == {None}
    assert "r" not in summarise(mevis, scores)["overall"]


def test_scores_of_before_robustness_was_measured_still_count(segmenter, mevis, results):
    run(segmenter, mevis, results)
    lines = results.path / "scores.jsonl"
    older = [{k: v for k, v in json.loads(line).items() if k != "r"} for line in lines.read_text().splitlines()]
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in older))
    assert results.pending(mevis.expressions) == []


def test_split_without_truth_has_images_but_no_scores(segmenter, tmp_path, results):
    dataset = open_dataset(write_mevis(tmp_path / "hidden", "valid"), "mevis")
    scores = run(segmenter, dataset, results)
    assert summarise(dataset, scores)["overall"]["j"] is None
    assert results.pending(dataset.expressions) == []


def test_reports_hold_every_expression(segmenter, mevis, results):
    scores = run(segmenter, mevis, results)
    write_reports(results, summarise(mevis, scores), scores)
    with (results.path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [e.text for e in mevis.expressions]
    summary = json.loads((results.path / "summary.json").read_text())
    assert summary["overall"]["j"] == pytest.approx(np.mean([float(row["j"]) for row in rows]))
