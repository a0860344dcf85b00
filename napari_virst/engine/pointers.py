"""Object pointers with which masks were answered: a re-run is held against them. No torch."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, int, bytes]


class PointerBook:
    """The pointers of the last answers, each found again by the very mask that it came with.

    A track holds masks alone. A mask that a person painted since, or that comes from an earlier session, has no pointer
    here. A model without pointers keeps nothing.

    Parameters
    ----------
    num_pointers
        Most that are kept, 0.8 KB each; those of a 10-minute video and then some.
    """

    def __init__(self, num_pointers: int = 50_000) -> None:
        self._num_pointers = num_pointers
        self._known: OrderedDict[Key, NDArray[np.float16]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def note(self, video: str, frame: int, mask: NDArray[np.bool_], pointer: NDArray[np.float32]) -> None:
        """Keep the pointer (C,) with which ``mask`` (H, W) bool was answered."""
        key = _key(video, frame, mask)
        self._known.pop(key, None)
        self._known[key] = pointer.astype(np.float16)
        while len(self._known) > self._num_pointers:
            self._known.popitem(last=False)

    def find(self, video: str, frame: int, mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """Return the pointer (C,) that came with a mask; None where it is not known."""
        found = self._known.get(_key(video, frame, mask))
        return None if found is None else found.astype(np.float32)


def _key(video: str, frame: int, mask: NDArray[np.bool_]) -> Key:
    return video, frame, hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=12).digest()


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine, -1…1, of two pointers (C,); 1 where both are zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else float(not one.any() and not other.any())
