"""Spreads expressions over processes, GPUs or machines through dask.distributed, one model per worker."""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari_virst.errors import InputError
from napari_virst.evaluation.run import evaluate_expressions
from napari_virst.io.datasets import open_dataset

try:
    from distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker
except ImportError as error:
    raise InputError(
        'Several workers must have dask.distributed; it is not installed; run pip install "napari-virst[distributed]".'
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_virst.engine.protocol import Segmenter
    from napari_virst.evaluation.run import ExpressionScore, ResultFolder
    from napari_virst.io.datasets import Expression, ExpressionDataset

    LoadSegmenter = Callable[[str], Segmenter]

_PLUGIN = "napari-virst-segmenter"


class SegmenterPlugin(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Keeps one model on each worker, loaded when the worker starts or the plugin arrives.

    Parameters
    ----------
    load
        Takes the name of a device and returns the model on it; sent to the workers.
    device
        "auto" gives the workers of one machine its GPUs in turn; all else is taken as it is.
    """

    name = _PLUGIN

    def __init__(self, load: LoadSegmenter, device: str) -> None:
        self._load, self._device = load, device

    def setup(self, worker: Any) -> None:  # noqa: ANN401 - a distributed.Worker
        """Load the model."""
        self.segmenter = self._load(_device_of(worker.name, self._device))
        # A worker of the user's own cluster may have several threads; a model serves one of them at a time.
        self.turn = Lock()


def _device_of(worker_name: object, device: str) -> str:
    import torch

    num_gpus = torch.cuda.device_count() if device == "auto" else 0
    number = str(worker_name)
    return f"cuda:{int(number) % num_gpus}" if num_gpus > 1 and number.isdecimal() else device


@contextmanager
def connect(num_workers: int, scheduler: str | None, *, processes: bool = True) -> Iterator[Any]:
    """Yield a client of the scheduler at an address, or of processes started here and ended afterwards.

    Raises
    ------
    InputError
        When no scheduler answers at the address.
    """
    with ExitStack() as stack:
        if scheduler is None:
            cluster = LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                processes=processes,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
            yield stack.enter_context(Client(stack.enter_context(cluster)))
            return
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f'--scheduler must be the address of a running Dask scheduler; got "{scheduler}" ({error}); '
                "start one with: dask scheduler."
            ) from error
        yield stack.enter_context(client)


def evaluate_on_cluster(
    client: Any,  # noqa: ANN401 - a distributed.Client
    load: LoadSegmenter,
    device: str,
    dataset: ExpressionDataset,
    expressions: Iterable[Expression],
    results: ResultFolder,
) -> Iterator[ExpressionScore]:
    """Answer expressions on the workers of a client; yield scores as videos are finished.

    A video goes to one worker, whose model then computes what its expressions share only once. The folders of the
    benchmark and of the results must have the same path on all workers.
    """
    by_video: dict[str, list[Expression]] = defaultdict(list)
    for expression in expressions:
        by_video[expression.video].append(expression)
    client.register_plugin(SegmenterPlugin(load, device))
    source = (str(dataset.folder.absolute()), str(dataset.benchmark), dataset.split)
    futures = [client.submit(_evaluate_video, source, asked, results, pure=False) for asked in by_video.values()]
    try:
        for _, scores in as_completed(futures, with_results=True):
            yield from scores
    finally:
        client.cancel(futures)
        client.unregister_worker_plugin(_PLUGIN)


def _evaluate_video(
    source: tuple[str, str, str], expressions: list[Expression], results: ResultFolder
) -> list[ExpressionScore]:
    plugin = get_worker().plugins[_PLUGIN]
    with plugin.turn:
        return list(evaluate_expressions(plugin.segmenter, _open_once(*source), expressions, results))


@lru_cache(maxsize=2)
def _open_once(folder: str, benchmark: str, split: str) -> ExpressionDataset:
    return open_dataset(folder, benchmark, split)
