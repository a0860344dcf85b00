from __future__ import annotations

from types import SimpleNamespace

import pytest
from fixtures.benchmarks import draw_video, write_mevis
from fixtures.segmenter import DiscSegmenter

from napari_virst.errors import CheckpointError, InputError
from napari_virst.evaluation.run import ResultFolder, evaluate_expressions
from napari_virst.io.datasets import open_dataset

pytest.importorskip("distributed")
pytest.importorskip("pycocotools")

from napari_virst.evaluation.cluster import SegmenterPlugin, connect, evaluate_on_cluster


def load(device: str) -> DiscSegmenter:
    segmenter = DiscSegmenter(draw_video(), before_frame=ignore)
    segmenter.device = device
    return segmenter


def ignore(frame: int) -> None:
    pass


def fail(device: str) -> DiscSegmenter:
    raise CheckpointError("A model must be there; got none; convert one.")


@pytest.fixture
def client():
    with connect(2, None, processes=False) as connected:
        yield connected


def test_workers_find_what_one_process_finds(client, tmp_path):
    dataset = open_dataset(write_mevis(tmp_path / "data"), "mevis", "valid_u")
    here, there = (ResultFolder(tmp_path / name, {}) for name in ("here", "there"))
    alone = {
        (s.video, s.expression_id): s.j for s in evaluate_expressions(load("cpu"), dataset, dataset.expressions, here)
    }
    spread = {
        (s.video, s.expression_id): s.j
        for s in evaluate_on_cluster(client, load, "cpu", dataset, dataset.expressions, there)
    }
    assert spread == alone
    for path in here.path.glob("Annotations/*/*/*.png"):
        assert path.read_bytes() == (there.path / path.relative_to(here.path)).read_bytes()


def test_a_model_that_cannot_be_loaded_is_told(client, tmp_path):
    dataset = open_dataset(write_mevis(tmp_path / "data"), "mevis", "valid_u")
    results = ResultFolder(tmp_path / "out", {})
    with pytest.raises(CheckpointError, match="convert one"):
        list(evaluate_on_cluster(client, fail, "cpu", dataset, dataset.expressions, results))


def test_address_without_scheduler_is_explained(monkeypatch):
    from napari_virst.evaluation import cluster

    def nobody(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(cluster, "Client", nobody)
    with pytest.raises(InputError, match="dask scheduler"), connect(1, "tcp://127.0.0.1:1"):
        pass


@pytest.mark.parametrize(
    ("worker", "asked", "num_gpus", "expected"),
    [
        (0, "auto", 2, "cuda:0"),
        (3, "auto", 2, "cuda:1"),
        (3, "auto", 1, "auto"),
        (3, "cpu", 2, "cpu"),
        ("tcp://10.0.0.1:4", "auto", 2, "auto"),
    ],
    ids=["first", "in-turn", "one-gpu", "as-asked", "own-cluster"],
)
def test_workers_take_the_gpus_in_turn(monkeypatch, worker, asked, num_gpus, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    plugin = SegmenterPlugin(load, asked)
    plugin.setup(SimpleNamespace(name=worker))
    assert plugin.segmenter.device == expected
