"""DAVIS and YouTube-VOS, read back by pillow and by the reader of benchmarks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fixtures.exports import BAR, CELLS, NUM_FRAMES, SIZE, draw_bar, draw_cells, labelled_track, labelled_video
from PIL import Image

from napari_virst.errors import InputError
from napari_virst.io.datasets import open_dataset
from napari_virst.io.export_palette import voc_palette
from napari_virst.io.exporting import export_labels


def test_palette_begins_as_published():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(colour) for colour in voc_palette()[:7].tolist()] == expected
    assert voc_palette()[8].tolist() == [64, 0, 0]
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_values_are_objects_and_the_smaller_lies_on_top(tmp_path):
    report = export_labels([labelled_video()], tmp_path / "out", "davis")
    for frame in range(NUM_FRAMES):
        image = Image.open(tmp_path / "out" / "Annotations" / "clip" / f"{frame:05d}.png")
        assert image.mode == "P"
        assert image.getpalette()[:9] == voc_palette()[:3].ravel().tolist()
        cells = draw_cells()[frame]
        expected = np.where(cells > 0, cells, 4 * draw_bar()[frame])  # the bar is larger than any cell
        np.testing.assert_array_equal(np.array(image), expected)
    assert (tmp_path / "out" / "ImageSets" / "2017" / "train.txt").read_text() == "clip\n"
    assert any(f"overlap on {NUM_FRAMES} frames" in note and f"“{BAR}” loses" in note for note in report.notes)


def test_which_object_lies_on_top_does_not_change_when_areas_do(tmp_path):
    growing, square = np.zeros((2, NUM_FRAMES, *SIZE), np.uint16)
    for t in range(NUM_FRAMES):
        growing[t, :, : 2 + 2 * t] = 1  # from 2 to 12 columns: at the end larger than the square
    square[:, :10, :24] = 1
    video = labelled_video(labelled_track(growing, "a"), labelled_track(square, "b"))
    export_labels([video], tmp_path / "out", "davis")
    for t in range(NUM_FRAMES):
        image = np.array(Image.open(tmp_path / "out" / "Annotations" / "clip" / f"{t:05d}.png"))
        np.testing.assert_array_equal(image == 1, growing[t] > 0)


def test_more_objects_than_values_are_refused_before_anything_is_written(tmp_path):
    labels = np.zeros((NUM_FRAMES, *SIZE), np.uint16)
    labels[0].flat[:255] = np.arange(1, 256)
    with pytest.raises(InputError, match="254 objects at most"):
        export_labels([labelled_video(labelled_track(labels))], tmp_path / "out", "davis")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def apart():
    """Cells and a bar that do not overlap, and a query that finds nothing."""
    bar = draw_bar()
    bar[draw_cells() > 0] = 0
    nothing = labelled_track(np.zeros_like(bar), "the giraffe")
    return labelled_video(labelled_track(draw_cells()), labelled_track(bar, BAR), nothing), bar


def test_expressions_come_back_with_their_masks(tmp_path, apart):
    video, bar = apart
    export_labels([video], tmp_path / "out", "youtube-vos")
    dataset = open_dataset(tmp_path / "out", "ref-youtube-vos", "train")
    assert [e.text for e in dataset.expressions] == [CELLS, BAR, "the giraffe"]
    for expression, truth in zip(dataset.expressions, (draw_cells() > 0, bar > 0, bar < 0), strict=True):
        assert dataset.annotated_frames(expression) == tuple(range(NUM_FRAMES))
        for frame in range(NUM_FRAMES):
            np.testing.assert_array_equal(dataset.truth(expression, frame, SIZE), truth[frame])


def test_objects_are_listed_with_the_frames_that_show_them(tmp_path, apart):
    export_labels([apart[0]], tmp_path / "out", "youtube-vos", split="valid")
    objects = json.loads((tmp_path / "out" / "valid" / "meta.json").read_text())["videos"]["clip"]["objects"]
    assert {number: one["category"] for number, one in objects.items()} == {
        "1": CELLS,
        "2": CELLS,
        "3": CELLS,
        "4": BAR,
    }
    assert objects["2"]["frames"] == ["00000", "00001", "00003", "00004", "00005"]
    assert objects["3"]["frames"] == ["00004", "00005"]


def test_one_object_is_a_plain_number_as_published_and_several_are_noted(tmp_path, apart):
    report = export_labels([apart[0]], tmp_path / "out", "youtube-vos")
    listing = tmp_path / "out" / "meta_expressions" / "train" / "meta_expressions.json"
    asked = json.loads(listing.read_text())["videos"]["clip"]["expressions"]
    assert [asked[n]["obj_id"] for n in "012"] == [["1", "2", "3"], "4", []]
    assert any("obj_id is a list for “the cells”, which" in note for note in report.notes)
    assert any("“the giraffe” shows nothing" in note for note in report.notes)


def test_only_exported_frames_are_listed(tmp_path):
    track = labelled_track(draw_cells(), reviewed=[1, 4])
    export_labels([labelled_video(track)], tmp_path / "out", "youtube-vos", only_reviewed=True)
    (expression,) = open_dataset(tmp_path / "out", "ref-youtube-vos", "train").expressions
    assert expression.frames == ("00001", "00004")


def test_mask_without_words_is_called_by_its_name(tmp_path):
    track = labelled_track(draw_cells(), "mouse", text="")
    report = export_labels([labelled_video(track)], tmp_path / "out", "youtube-vos")
    assert open_dataset(tmp_path / "out", "ref-youtube-vos", "train").expressions[0].text == "mouse"
    assert any("without words" in note for note in report.notes)
