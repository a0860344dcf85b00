"""Where training runs: on one device, or on several through accelerate."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

import torch

from napari_virst.errors import DeviceError, InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

Precision = Literal["auto", "fp32", "bf16"]
M = TypeVar("M", bound="nn.Module")


class Devices(Protocol):
    """What the loop asks of the place where it runs."""

    device: torch.device
    rank: int
    """Number of this process, from 0; the first one writes files."""
    num_processes: int

    def prepare(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return both as they are to be used here."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        ...

    def without_exchange(self, learner: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay on their device, for all but the last of accumulated lessons."""
        ...

    def wait(self) -> None:
        """Wait until all processes are here."""
        ...


class OneDevice:
    """One process on one device.

    Parameters
    ----------
    device
        Where; the CPU where left out.
    """

    rank = 0
    num_processes = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def prepare(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return both as they are."""
        return learner, optimiser

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        loss.backward()

    def without_exchange(self, learner: nn.Module) -> AbstractContextManager[Any]:
        """Return an empty context."""
        return nullcontext()

    def wait(self) -> None:
        """Return at once."""


class SeveralDevices:
    """One process per device, started by ``accelerate launch`` or ``torchrun``; every one draws lessons of its own.

    Parameters
    ----------
    cpu
        Whether to stay on the CPU where there are GPUs.

    Raises
    ------
    DeviceError
        When accelerate is not installed.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs
        except ImportError as error:
            raise DeviceError(
                "Training on several devices must have accelerate; it is not installed; "
                'run pip install "napari-virst[train]".'
            ) from error
        # A step trains only what its kind of lesson needs; buffers are constant tables.
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)]
        self._accelerator = Accelerator(cpu=cpu, kwargs_handlers=handlers)
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.num_processes: int = self._accelerator.num_processes

    def prepare(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Wrap both."""
        wrapped: tuple[nn.Module, Any] = self._accelerator.prepare(learner, optimiser)
        return wrapped

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, averaged over all devices."""
        self._accelerator.backward(loss)

    def without_exchange(self, learner: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which gradients are not averaged over devices."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(learner)
        return context

    def wait(self) -> None:
        """Wait for the other processes."""
        self._accelerator.wait_for_everyone()


def pick_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of matrix products: bfloat16 on CUDA and float32 elsewhere, unless told otherwise.

    Raises
    ------
    InputError
        When there is no such precision.
    """
    if precision not in get_args(Precision):
        raise InputError(
            f'The precision must be one of {", ".join(get_args(Precision))}; got "{precision}"; choose one.'
        )
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
