"""The mask store: an array to people, a locked door to the model."""

from __future__ import annotations

import copy
import itertools
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_virst.errors import MaskError, ProjectError
from napari_virst.io import mask_files
from napari_virst.records import Provenance
from napari_virst.session.masks import MaskStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (6, 8, 10)
SQUARE = (slice(2, 5), slice(3, 6))


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    return MaskStore(tmp_path / "track.tif", SHAPE)


@pytest.fixture
def predicted(store: MaskStore) -> MaskStore:
    """A store in which the model has said something of every frame."""
    for frame in range(SHAPE[0]):
        store.write_prediction(frame, a_mask(frame), 1, Provenance.PROPAGATED, revision=1)
    return store


def a_mask(seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(SHAPE[1:]) > 0.6


def hear(store: MaskStore) -> list[tuple[int, ...]]:
    heard: list[tuple[int, ...]] = []
    store.edited.connect(heard.append)
    return heard


# -- an array ----------------------------------------------------------------------------------------------------


def test_new_store_is_an_empty_array(store: MaskStore) -> None:
    assert (store.shape, store.ndim, store.dtype, len(store)) == (SHAPE, 3, np.uint16, 6)
    assert store.size == 480
    assert not np.asarray(store).any()
    assert store.owned_frames == ()
    assert (store.provenances == Provenance.EMPTY).all()


KEYS: list[tuple[str, Any]] = [
    ("frame", 2),
    ("last frame", -1),
    ("frame range", slice(1, 4)),
    ("every second frame backwards", slice(None, None, -2)),
    ("napari stroke", (slice(2, 3), slice(1, 4), slice(2, 7))),
    ("several frames", (slice(1, 4), slice(1, 4), slice(2, 7))),
    ("pixel", (3, 4, 5)),
    ("numpy integers", (np.int64(3), np.uint8(4), np.int32(5))),
    ("row of one frame", (3, 4)),
    ("ellipsis", (..., slice(0, 3))),
    ("ellipsis between", (2, ..., 3)),
    ("ellipsis alone", ...),
    ("frame and points", (2, np.array([1, 2, 7]), np.array([0, 5, 9]))),
    ("frames and points", (slice(1, 3), np.array([1, 2]), np.array([0, 5]))),
    ("points", (np.array([0, 3, 3]), np.array([1, 2, 7]), np.array([0, 5, 9]))),
    ("negative points", (np.array([-1, 3]), np.array([-1, -2]), np.array([0, -10]))),
    ("list of frames", [1, 4]),
    ("mask of frames", np.array([True, False, False, True, False, False])),
    ("mask of pixels", np.random.default_rng(1).random(SHAPE) > 0.9),
    ("mask within frame", (2, np.random.default_rng(1).random(SHAPE[1:]) > 0.5)),
    ("frame, columns apart", (2, slice(None), np.array([1, 3]))),
    ("new axis", (None, 2)),
    ("nothing", slice(3, 3)),
    ("no pixels", np.zeros(SHAPE, bool)),
]


@pytest.mark.parametrize("key", [key for _, key in KEYS], ids=[name for name, _ in KEYS])
@pytest.mark.parametrize("as_array", [False, True], ids=["number", "array"])
def test_writing_and_reading_is_numpys(store: MaskStore, key: Any, as_array: bool) -> None:
    plain = np.zeros(SHAPE, np.uint16)
    value: Any = np.arange(1, plain[key].size + 1).reshape(plain[key].shape) if as_array else 7
    plain[key] = value
    store[key] = value
    np.testing.assert_array_equal(np.asarray(store), plain)
    np.testing.assert_array_equal(store[key], plain[key])
    assert store.owned_frames == tuple(np.flatnonzero(plain.any(axis=(1, 2))).tolist())


def test_value_of_one_frame_is_broadcast_over_frames(store: MaskStore) -> None:
    store[1:3] = a_mask()
    np.testing.assert_array_equal(store[1:3] != 0, np.stack([a_mask()] * 2))


def test_last_of_two_values_for_one_pixel_stays(store: MaskStore) -> None:
    store[np.array([1, 1]), np.array([2, 2]), np.array([3, 3])] = np.array([5, 6])
    assert store[1, 2, 3] == 6


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (6, 1, IndexError),
        ((0, 8, 0), 1, IndexError),
        ((0, 0, 0, 0), 1, IndexError),
        ((slice(0, 1), slice(0, 2), slice(0, 2)), np.ones((3, 3)), ValueError),
        (0, -1, MaskError),
        (0, 70000, MaskError),
        (0, 0.5, MaskError),
    ],
    ids=["no such frame", "no such row", "4 axes", "wrong shape", "negative", "too large", "fraction"],
)
def test_impossible_write_changes_nothing(store: MaskStore, key: Any, value: Any, error: type[Exception]) -> None:
    heard = hear(store)
    with pytest.raises(error):
        store[key] = value
    assert not np.asarray(store).any()
    assert (store.owned_frames, heard) == ((), [])


def test_what_is_read_is_a_copy_that_may_be_painted_on(predicted: MaskStore) -> None:
    before = predicted.frame(2)
    for block in (predicted[2], predicted[2:3], predicted.frame(2), predicted.mask(2), predicted.provenances):
        block[...] = 1
    np.testing.assert_array_equal(predicted.frame(2), before)
    assert predicted.owned_frames == ()


def test_array_of_all_frames_stays_on_disk_and_cannot_be_written(store: MaskStore) -> None:
    everything = np.asarray(store)
    with pytest.raises(ValueError, match="read-only"):
        everything[0] = 1
    assert np.array(store, copy=True).flags.writeable
    assert np.asarray(store, dtype=np.int32).dtype == np.int32


def test_duplicate_is_a_plain_array(predicted: MaskStore) -> None:
    duplicate = copy.deepcopy(predicted)
    assert type(duplicate) is np.ndarray
    duplicate[0] = 9
    assert not (predicted[0] == 9).any()


# -- people's door -----------------------------------------------------------------------------------------------


def test_stroke_makes_the_frame_corrected_and_tells_so(predicted: MaskStore) -> None:
    heard = hear(predicted)
    changed: list[tuple[int, ...]] = []
    predicted.provenance_changed.connect(changed.append)
    predicted[(slice(2, 3), *SQUARE)] = 4
    predicted[(slice(2, 3), *SQUARE)] = 5
    assert predicted.provenance(2) is Provenance.CORRECTED
    assert predicted.owned_frames == (2,)
    assert heard == [(2,), (2,)]
    assert changed == [(2,)]


def test_write_that_changes_no_pixel_is_no_edit(predicted: MaskStore) -> None:
    heard = hear(predicted)
    predicted[2] = predicted[2]
    predicted[1:4, 2:5] = predicted[1:4, 2:5]
    assert (heard, predicted.owned_frames) == ([], ())


def test_stroke_through_time_owns_only_frames_it_changed(store: MaskStore) -> None:
    store[2] = 3
    heard = hear(store)
    store[1:4] = 3
    assert heard == [(1, 3)]
    assert store.owned_frames == (1, 2, 3)


def test_undo_to_the_prediction_hands_the_frame_back(predicted: MaskStore) -> None:
    before = predicted[2]
    predicted[(2, *SQUARE)] = 4
    predicted[(2, *SQUARE)] = before[SQUARE]
    assert predicted.provenance(2) is Provenance.PROPAGATED
    assert predicted.write_prediction(2, ~a_mask(2), 1, Provenance.PROPAGATED)


def test_undo_on_a_frame_nobody_computed_leaves_it_empty(store: MaskStore) -> None:
    store[2, 3, 3] = 4
    store[2, 3, 3] = 0
    assert store.provenance(2) is Provenance.EMPTY


def test_half_undone_frame_stays_the_persons(predicted: MaskStore) -> None:
    before = predicted[2]
    predicted[2, 0] = 4
    predicted[2, 1] = 4
    predicted[2, 1] = before[1]
    assert predicted.owned_frames == (2,)


def test_undo_does_not_hand_back_a_committed_frame(predicted: MaskStore) -> None:
    before = predicted[2]
    predicted[2, 0] = 4
    predicted.commit(2)
    predicted[2] = before
    assert predicted.is_committed(2)
    assert predicted.owned_frames == (2,)


def test_stroke_on_an_accepted_frame_makes_it_corrected(predicted: MaskStore) -> None:
    predicted.commit(2, Provenance.ACCEPTED)
    predicted[2, 0, 0] = 9
    assert predicted.provenance(2) is Provenance.CORRECTED


def test_redo_on_a_rewritten_frame_changes_only_its_pixels(predicted: MaskStore) -> None:
    before = predicted[2]
    predicted[(2, *SQUARE)] = 4
    predicted[(2, *SQUARE)] = before[SQUARE]
    rewritten = ~a_mask(2)
    predicted.write_prediction(2, rewritten, 1, Provenance.PROPAGATED)
    predicted[(2, *SQUARE)] = 4
    outside = np.ones(SHAPE[1:], bool)
    outside[SQUARE] = False
    np.testing.assert_array_equal(predicted.mask(2)[outside], rewritten[outside])
    assert (predicted[2][SQUARE] == 4).all()
    assert predicted.restore_prediction(2)
    np.testing.assert_array_equal(predicted.mask(2), rewritten)


def test_full_disk_is_said_before_a_pixel_changes(predicted: MaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = predicted[2]
    usage = mask_files.shutil.disk_usage(predicted.path.parent)
    monkeypatch.setattr(mask_files.shutil, "disk_usage", lambda path: usage._replace(free=0))
    with pytest.raises(ProjectError, match="make room"):
        predicted[2] = 4
    np.testing.assert_array_equal(predicted[2], before)
    assert predicted.owned_frames == ()


# -- declared masks ----------------------------------------------------------------------------------------------


def test_given_mask_is_written_with_its_label_and_kept(store: MaskStore) -> None:
    heard = hear(store)
    store.give(3, a_mask(), label=5)
    np.testing.assert_array_equal(store[3], a_mask() * 5)
    assert store.is_committed(3)
    assert store.provenance(3) is Provenance.CORRECTED
    assert heard == [], "giving is not painting"


def test_given_labels_are_kept_as_they_are(store: MaskStore) -> None:
    labels = np.arange(80).reshape(8, 10)
    store.give(3, labels, Provenance.ACCEPTED)
    np.testing.assert_array_equal(store[3], labels)
    assert store.provenance(3) is Provenance.ACCEPTED


def test_mask_of_another_shape_is_refused(store: MaskStore) -> None:
    with pytest.raises(MaskError, match=r"\(H, W\) = \(8, 10\); got \(8, 8\)"):
        store.give(3, np.ones((8, 8), bool))
    assert store.owned_frames == ()


def test_giving_as_the_model_is_our_own_mistake(store: MaskStore) -> None:
    with pytest.raises(ValueError, match="PROPAGATED"):
        store.give(3, a_mask(), Provenance.PROPAGATED)


def test_restored_prediction_is_what_the_model_had_said(predicted: MaskStore) -> None:
    predicted.give(2, np.zeros(SHAPE[1:], bool))
    np.testing.assert_array_equal(predicted.prediction(2) != 0, a_mask(2))
    assert predicted.restore_prediction(2)
    np.testing.assert_array_equal(predicted.mask(2), a_mask(2))
    assert predicted.provenance(2) is Provenance.PROPAGATED
    assert not predicted.restore_prediction(2)


# -- the model's door --------------------------------------------------------------------------------------------


def test_prediction_is_written_with_all_that_is_known(store: MaskStore) -> None:
    heard = hear(store)
    assert store.write_prediction(2, a_mask(), 3, Provenance.PREDICTED, presence=0.75, predicted_iou=0.5, revision=4)
    np.testing.assert_array_equal(store[2], a_mask() * 3)
    assert store.provenance(2) is Provenance.PREDICTED
    assert (store.presences[2], store.predicted_ious[2], store.revisions[2]) == (0.75, 0.5, 4)
    assert np.isnan(store.presences[1])
    assert heard == []


@pytest.mark.parametrize("how", ["painted", "given", "committed", "absent"])
def test_model_never_changes_a_persons_frame(predicted: MaskStore, how: str) -> None:
    if how == "painted":
        predicted[2, 0, 0] = 7
    elif how == "given":
        predicted.give(2, a_mask(9))
    elif how == "committed":
        predicted.commit(2)
    else:
        predicted.give(2, np.zeros(SHAPE[1:], bool))
    before = predicted[2]
    assert not predicted.write_prediction(2, ~a_mask(2), 1, Provenance.PREDICTED, presence=0.1, revision=9)
    np.testing.assert_array_equal(predicted[2], before)
    assert predicted.revisions[2] == 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((8, 9), bool), r"got \(8, 9\)"), (np.ones(SHAPE[1:]), "got float64")],
    ids=["shape", "type"],
)
def test_prediction_that_is_no_mask_is_refused(store: MaskStore, mask: NDArray[Any], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        store.write_prediction(2, mask, 1, Provenance.PROPAGATED)


def test_model_cannot_pass_for_a_person(store: MaskStore) -> None:
    with pytest.raises(ValueError, match="CORRECTED"):
        store.write_prediction(2, a_mask(), 1, Provenance.CORRECTED)


def test_checksum_follows_the_object_whatever_its_label(predicted: MaskStore) -> None:
    first = predicted.checksum(2)
    predicted[2] = (predicted[2] != 0) * 9
    assert predicted.checksum(2) == first
    predicted[2, 0, 0] = predicted[2, 0, 0] == 0
    assert predicted.checksum(2) != first


# -- on disk -----------------------------------------------------------------------------------------------------


def test_reopened_store_is_the_same(predicted: MaskStore) -> None:
    predicted[1, 0, :] = 4
    predicted.commit(2)
    predicted.give(3, a_mask(8), Provenance.ACCEPTED)
    again = MaskStore(predicted.path, SHAPE)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(predicted))
    np.testing.assert_array_equal(again.provenances, predicted.provenances)
    assert [again.is_committed(frame) for frame in range(4)] == [False, False, True, True]
    np.testing.assert_array_equal(again.prediction(1), a_mask(1))


def test_undo_hands_back_also_after_reopening(predicted: MaskStore) -> None:
    before = predicted[1]
    predicted[1, 0, :] = 4
    again = MaskStore(predicted.path, SHAPE)
    again[1, 0, :] = before[0]
    assert again.provenance(1) is Provenance.PROPAGATED


def test_other_programs_see_strokes_while_the_session_runs(predicted: MaskStore) -> None:
    predicted[4, 2, 2] = 1234
    assert tifffile.imread(predicted.path)[4, 2, 2] == 1234


def test_strokes_survive_a_model_that_writes_from_another_thread(store: MaskStore) -> None:
    start = threading.Barrier(2, timeout=10)

    def predict() -> None:
        start.wait()
        for revision, frame in itertools.product(range(30), range(SHAPE[0])):
            store.write_prediction(frame, a_mask(revision), 1, Provenance.PROPAGATED, revision=revision)

    worker = threading.Thread(target=predict)
    worker.start()
    start.wait()
    for column, frame in itertools.product(range(SHAPE[2]), range(SHAPE[0])):
        store[frame, 3, column] = 100 + column
    worker.join()
    assert store.owned_frames == tuple(range(SHAPE[0]))
    np.testing.assert_array_equal(store[:, 3], np.tile(np.arange(100, 110), (SHAPE[0], 1)))


# -- rules -------------------------------------------------------------------------------------------------------

frames = st.integers(0, SHAPE[0] - 1)
masks = hnp.arrays(np.bool_, SHAPE[1:])
actions = st.one_of(
    st.tuples(st.just("paint"), frames, masks),
    st.tuples(st.just("predict"), frames, masks),
    st.tuples(st.just("commit"), frames, masks),
    st.tuples(st.just("give"), frames, masks),
    st.tuples(st.just("undo"), frames, masks),
    st.tuples(st.just("restore"), frames, masks),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, max_size=25))
def test_no_sequence_lets_the_model_change_an_owned_pixel(
    sequence: list[tuple[str, int, NDArray[np.bool_]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = MaskStore(Path(folder) / "a.tif", SHAPE)
        expected = np.zeros(SHAPE, np.uint16)
        undo: list[tuple[int, NDArray[np.uint16]]] = []
        for action, frame, mask in sequence:
            owned = frame in store.owned_frames
            if action == "paint":
                undo.append((frame, store[frame]))
                expected[frame][mask] = 2
                store[np.full(mask.sum(), frame), *np.nonzero(mask)] = 2
            elif action == "predict":
                written = store.write_prediction(frame, mask, 1, Provenance.PROPAGATED)
                assert written != owned
                if written:
                    expected[frame] = mask
            elif action == "give":
                store.give(frame, mask)
                expected[frame] = mask
            elif action == "commit":
                store.commit(frame)
            elif action == "restore":
                expected[frame] = store.prediction(frame)
                store.restore_prediction(frame)
            elif undo:
                undone, pixels = undo.pop()
                expected[undone] = pixels
                store[undone : undone + 1] = pixels[None]
            np.testing.assert_array_equal(np.asarray(store), expected)
            for one in store.owned_frames:
                assert store.is_committed(one) or (store[one] != store.prediction(one)).any()


@settings(max_examples=100, deadline=None)
@given(hnp.basic_indices(SHAPE, allow_newaxis=True) | hnp.integer_array_indices(SHAPE), st.integers(1, 65535))
def test_any_index_writes_what_numpy_writes(key: Any, value: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, plain = MaskStore(Path(folder) / "a.tif", SHAPE), np.zeros(SHAPE, np.uint16)
        plain[key] = store[key] = value
        np.testing.assert_array_equal(np.asarray(store), plain)
        values = np.arange(plain[key].size).reshape(np.shape(plain[key]))
        plain[key] = values
        store[key] = values
        np.testing.assert_array_equal(np.asarray(store), plain)


# -- napari ------------------------------------------------------------------------------------------------------


@pytest.mark.gui
class TestInNapari:
    """napari's own Labels layer paints on the store; no Qt is needed for that."""

    @pytest.fixture
    def layer(self, predicted: MaskStore) -> Any:
        layers = pytest.importorskip("napari.layers", reason="napari is not installed")
        components = pytest.importorskip("napari.components", reason="napari is not installed")
        viewer = components.ViewerModel()
        layer = layers.Labels(predicted)
        viewer.add_layer(layer)
        viewer.dims.set_current_step(0, 3)
        layer.brush_size = 3
        return layer

    def test_layer_holds_the_store_itself(self, layer: Any, predicted: MaskStore) -> None:
        assert layer.data is predicted
        assert predicted.owned_frames == ()

    def test_brush_paints_and_undo_hands_back(self, layer: Any, predicted: MaskStore) -> None:
        heard = hear(predicted)
        before = predicted[3]
        layer.paint((3, 4, 4), 5)
        assert (predicted[3] == 5).any()
        assert predicted.owned_frames == (3,)
        layer.undo()
        np.testing.assert_array_equal(predicted[3], before)
        assert predicted.owned_frames == ()
        layer.redo()
        assert (predicted[3] == 5).any()
        assert predicted.owned_frames == (3,)
        assert heard == [(3,)] * 3

    def test_eraser_bucket_and_polygon_are_edits(self, layer: Any, predicted: MaskStore) -> None:
        layer.fill((3, 0, 0), 6)
        assert predicted.owned_frames == (3,)
        layer.paint((1, 4, 4), 0)
        layer.paint_polygon([(4, 1, 1), (4, 1, 8), (4, 6, 8), (4, 6, 1)], 7)
        assert (predicted[4] == 7).sum() > 10
        assert predicted.owned_frames == (1, 3, 4)

    def test_several_undos_give_every_frame_back(self, layer: Any, predicted: MaskStore) -> None:
        before = np.array(predicted)
        for frame, label in itertools.product((1, 2, 3), (5, 6)):
            layer.paint((frame, 4, label), label)
        for _ in range(6):
            layer.undo()
        np.testing.assert_array_equal(np.asarray(predicted), before)
        assert predicted.owned_frames == ()

    def test_single_pixels_set_by_a_plugin_are_edits(self, layer: Any, predicted: MaskStore) -> None:
        layer.data_setitem((np.array([2, 2]), np.array([0, 1]), np.array([0, 1])), 8)
        assert predicted[2, 1, 1] == 8
        assert predicted.owned_frames == (2,)

    def test_brush_in_three_dimensions_owns_every_frame_it_changes(self, layer: Any, predicted: MaskStore) -> None:
        layer.n_edit_dimensions = 3
        layer.paint((3, 4, 4), 5)
        assert predicted.owned_frames == (2, 3, 4)

    def test_layer_shows_what_the_model_wrote_after_a_refresh(self, layer: Any, predicted: MaskStore) -> None:
        predicted.write_prediction(3, np.ones(SHAPE[1:], bool), 9, Provenance.PROPAGATED)
        layer.refresh()
        assert layer.get_value((3, 2, 2)) == 9
        assert predicted.owned_frames == ()

    def test_duplicated_layer_does_not_paint_into_the_session(self, layer: Any, predicted: MaskStore) -> None:
        data, _, _ = copy.deepcopy(layer.as_layer_data_tuple())
        data[3] = 9
        assert not (predicted[3] == 9).any()
