"""What following computes again for every frame though it depends on the weights alone, kept from frame to frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

T = TypeVar("T")


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is float32 on a CPU and no gradients are wanted: other code than a GPU's is fastest there."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


class Derived:
    """A few values that follow from weights, made anew where the weights have changed.

    A change is seen by torch's own count of writes in place and by where the values lie. The weights are kept with what
    was made of them: freed, their place would go to the next tensor of that size, which would pass for them. Nothing is
    kept where gradients are wanted, or of tensors that are made in inference mode and keep no count.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], tuple[Tensor, ...], object]] = {}

    def fetch(self, name: str, weights: Sequence[Tensor], make: Callable[[], T], *sizes: object) -> T:
        """Return what ``make`` says, asked only where the weights or ``sizes`` are not those of the last time."""
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            return make()
        state = *sizes, *((w.data_ptr(), w._version, w.dtype, w.device) for w in weights)
        known = self._known.get(name)
        if known is None or known[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                known = self._known[name] = state, tuple(weight.detach() for weight in weights), make()
        return known[2]  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict[int, object]) -> Derived:
        return Derived()

    def __getstate__(self) -> dict[str, object]:
        return {"_known": {}}
