from __future__ import annotations

import numpy as np
import pytest

from napari_virst.engine.pointers import PointerBook, cosine

MASK, OTHER = np.eye(4, dtype=bool), np.ones((4, 4), bool)
POINTER = np.array([0.5, -0.25], np.float32)


def test_pointer_is_found_by_the_mask_that_it_came_with():
    book = PointerBook()
    book.note("video", 3, MASK, POINTER)
    np.testing.assert_array_equal(book.find("video", 3, MASK.copy()), POINTER)


@pytest.mark.parametrize(
    ("video", "frame", "mask"),
    [("another", 3, MASK), ("video", 4, MASK), ("video", 3, OTHER)],
    ids=["video", "frame", "mask"],
)
def test_nothing_else_finds_it(video, frame, mask):
    book = PointerBook()
    book.note("video", 3, MASK, POINTER)
    assert book.find(video, frame, mask) is None


def test_oldest_pointers_go_first():
    book = PointerBook(num_pointers=2)
    for frame in range(3):
        book.note("video", frame, MASK, POINTER)
    assert len(book) == 2
    assert book.find("video", 0, MASK) is None


def test_last_pointer_of_a_mask_counts():
    book = PointerBook()
    book.note("video", 0, MASK, POINTER)
    book.note("video", 0, MASK, -POINTER)
    np.testing.assert_array_equal(book.find("video", 0, MASK), -POINTER)


def test_cosine_of_nothing_is_agreement_with_nothing_alone():
    zero = np.zeros(2, np.float32)
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, POINTER) == 0.0
    assert cosine(POINTER, 2 * POINTER) == pytest.approx(1.0)
