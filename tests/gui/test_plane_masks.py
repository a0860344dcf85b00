from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from napari.layers import Labels

from napari_virst.errors import MaskError
from napari_virst.gui.plane_masks import PlaneMasks
from napari_virst.records import Provenance
from napari_virst.session.masks import MaskStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (5, 8, 9)
FULL = {4: (5, 1, 8, 9), 5: (5, 1, 1, 8, 9)}


class Counting(MaskStore):
    """Notes how much is read and written at once."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(path, shape)
        self.most = 0

    def __getitem__(self, key: Any) -> Any:
        selected = super().__getitem__(key)
        self.most = max(self.most, np.size(selected))
        return selected

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        self.most = self.size
        return super().__array__(*arguments, **options)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., PlaneMasks]:
    """``make(ndim)``: plane masks with noise in them."""
    numbers = iter(range(1000))

    def make(ndim: int = 4, kind: type[MaskStore] = MaskStore) -> PlaneMasks:
        masks = kind(tmp_path / f"{next(numbers)}.tif", SHAPE)
        masks[:] = np.random.default_rng(0).integers(0, 4, SHAPE, dtype=np.uint16)
        return PlaneMasks(masks, ndim)

    return make


@pytest.mark.parametrize("ndim", [4, 5])
def test_looks_like_an_array_with_the_axes_of_the_volume(make: Callable[..., PlaneMasks], ndim: int) -> None:
    planes = make(ndim)
    whole = np.asarray(planes)
    assert (planes.shape, planes.ndim, planes.dtype, len(planes)) == (FULL[ndim], ndim, np.uint16, 5)
    assert (whole.shape, whole.size, whole.nbytes) == (planes.shape, planes.size, planes.nbytes)
    np.testing.assert_array_equal(whole.reshape(SHAPE), np.asarray(planes.masks))
    assert not whole.flags.writeable
    assert type(copy.deepcopy(planes)) is np.ndarray


@pytest.fixture(params=[4, 5], ids=["4-axes", "5-axes"])
def planes(request: pytest.FixtureRequest, make: Callable[..., PlaneMasks]) -> PlaneMasks:
    """Plane masks of a volume without and with channels, one for all examples of a test."""
    return make(request.param)


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    points = hnp.integer_array_indices(shape, result_shape=st.just((3,)))
    kinds = (hnp.basic_indices(shape, allow_newaxis=True), points, hnp.arrays(np.bool_, shape))
    return draw(st.one_of(*kinds))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_reading_is_numpy_s(planes: PlaneMasks, data: st.DataObject) -> None:
    key = data.draw(keys(planes.shape))
    expected, got = np.array(planes)[key], planes[key]
    assert np.shape(got) == np.shape(expected)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), is_array=st.booleans())
def test_writing_is_numpy_s(planes: PlaneMasks, data: st.DataObject, is_array: bool) -> None:
    expected = np.array(planes)
    key = data.draw(keys(planes.shape))
    value = np.arange(expected[key].size, dtype=np.uint16).reshape(expected[key].shape) if is_array else 7
    expected[key] = value
    planes[key] = value
    np.testing.assert_array_equal(np.asarray(planes), expected)


@pytest.mark.parametrize("key", [(5,), (0, 1), (0, 0, 8), (0,) * 5], ids=["frame", "plane", "row", "too-many"])
def test_keys_outside_are_refused(make: Callable[..., PlaneMasks], key: tuple[int, ...]) -> None:
    planes = make()
    with pytest.raises(IndexError):
        planes[key]
    with pytest.raises(IndexError):
        planes[key] = 1


def test_a_write_is_a_person_s_edit_of_its_frame_alone(make: Callable[..., PlaneMasks]) -> None:
    planes = make()
    masks = MaskStore(planes.masks.path.with_name("other.tif"), SHAPE)
    edits: list[tuple[int, ...]] = []
    masks.edited.connect(lambda frames: edits.append(frames))
    planes = PlaneMasks(masks, 4)
    planes[2:3, 0:1, :2, :2] = 1
    assert edits == [(2,)]
    assert masks.provenance(2) is Provenance.CORRECTED
    with pytest.raises(MaskError):
        planes[2, 0] = -1


def _paint(layer: Labels, place: tuple[int, ...]) -> None:
    layer.brush_size = 3
    layer.paint(place, 6)


def _fill(layer: Labels, place: tuple[int, ...]) -> None:
    layer.fill(place, 6)


def _polygon(layer: Labels, place: tuple[int, ...]) -> None:
    first = place[:-2]
    layer.paint_polygon([(*first, 1, 1), (*first, 1, 6), (*first, 6, 6)], 6)


def _set_items(layer: Labels, place: tuple[int, ...]) -> None:
    layer.data_setitem(tuple(np.array([one, one]) for one in place), 6)


@pytest.mark.parametrize("do", [_paint, _fill, _polygon, _set_items], ids=["paint", "fill", "polygon", "set-items"])
@pytest.mark.parametrize("ndim", [4, 5])
def test_napari_edits_and_undoes_as_on_a_plain_array(make: Callable[..., PlaneMasks], ndim: int, do: Any) -> None:
    planes = make(ndim)
    layer, plain = Labels(planes), Labels(np.array(planes))
    before, place = np.array(planes), (3, *[0] * (ndim - 3), 4, 4)
    for one in (layer, plain):
        do(one, place)
    after = plain.data.copy()
    assert (after != before).any()
    np.testing.assert_array_equal(np.asarray(planes), after)
    for step, expected in (("undo", before), ("redo", after), ("undo", before)):
        getattr(layer, step)()
        np.testing.assert_array_equal(np.asarray(planes), expected)


@pytest.mark.parametrize("do", [_paint, _fill, _polygon, _set_items], ids=["paint", "fill", "polygon", "set-items"])
def test_painting_touches_no_more_than_a_frame(make: Callable[..., PlaneMasks], do: Any) -> None:
    planes = make(4, Counting)
    layer = Labels(planes)
    planes.masks.most = 0
    do(layer, (3, 0, 4, 4))
    layer.undo()
    assert planes.masks.provenance(3) is Provenance.CORRECTED
    assert 0 < planes.masks.most <= SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("ndim", [4, 5])
def test_another_data_type_is_refused_in_a_sentence(tmp_path: Path, ndim: int) -> None:
    masks = PlaneMasks(MaskStore(tmp_path / "a.tif", SHAPE), ndim)
    with pytest.raises(MaskError, match="must stay uint16; got int64"):
        masks.astype("int64")
