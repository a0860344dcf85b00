from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from fixtures.learners import build_tiny, tiny_recipe

from napari_virst.errors import CheckpointError
from napari_virst.training.logs import COLUMNS
from napari_virst.training.loop import Trainer

if TYPE_CHECKING:
    from napari_virst.training.phases import Recipe

TESTS = Path(__file__).parents[1]


@pytest.fixture
def tiny_trainer(tmp_path):
    torch.set_num_threads(1)

    def make(recipe: Recipe, folder: str = "run", **options) -> Trainer:
        return Trainer(*build_tiny(), recipe, tmp_path / folder, **options)

    return make


def assert_same_weights(first: Trainer, second: Trainer):
    pairs = (first.model, second.model), (first.auxiliary, second.auxiliary), (first.average, second.average)
    for one, other in pairs:
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tiny_trainer):
    recipe = tiny_recipe(6)
    unbroken = tiny_trainer(recipe, "unbroken")
    unbroken.train()
    first = tiny_trainer(recipe, "broken")
    first.train(should_stop=lambda: first.step == 3)
    second = tiny_trainer(recipe, "broken")
    assert second.resume()
    assert second.step == 3
    second.train()
    assert_same_weights(unbroken, second)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.append({tests!r})
import torch
from fixtures.learners import build_tiny, tiny_recipe
from napari_virst.training.loop import Trainer
torch.set_num_threads(1)
trainer = Trainer(*build_tiny(), tiny_recipe(6, num_accumulated=2, checkpoint_every_steps=2, log_every_steps=1),
                  Path({out!r}))
trainer.train(lambda: trainer.step == 5 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_run_killed_between_checkpoints_goes_on_bit_for_bit(tiny_trainer, tmp_path):
    script = KILLED.format(tests=str(TESTS), out=str(tmp_path / "killed"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    recipe = tiny_recipe(6, num_accumulated=2, checkpoint_every_steps=2, log_every_steps=1)
    (tmp_path / "killed" / "state.tmp").write_bytes(b"half a checkpoint")
    second = tiny_trainer(recipe, "killed")
    assert second.resume()
    assert second.step == 4
    second.train()
    unbroken = tiny_trainer(recipe, "unbroken")
    unbroken.train()
    assert_same_weights(unbroken, second)
    assert losses(unbroken) == losses(second)


def losses(trainer: Trainer):
    return [(row["step"], row["lesson"], row["loss"]) for row in trainer.metrics.read()]


def test_nothing_to_resume_is_said(tiny_trainer):
    assert not tiny_trainer(tiny_recipe(1)).resume()


def test_another_recipes_run_is_not_resumed(tiny_trainer):
    tiny_trainer(tiny_recipe(1)).save()
    with pytest.raises(CheckpointError, match="its own recipe, tiny; got other"):
        tiny_trainer(tiny_recipe(1, name="other")).resume()


NEW_PARTS = {
    "model": "prompter.seg_proj.bias",
    "average": "module.prompter.seg_proj.bias",
    "auxiliary": "path.read.bias",
}


def test_a_state_from_before_the_network_had_new_parts_is_resumed_without_its_optimiser(tiny_trainer):
    trainer = tiny_trainer(tiny_recipe(2))
    trainer.train()
    path = trainer.out_dir / "state.pt"
    state = torch.load(path, weights_only=True)
    for part, name in NEW_PARTS.items():
        del state[part][name]
    del state["recipe"]
    torch.save(state, path)
    second = tiny_trainer(tiny_recipe(4))
    assert second.resume()
    for part, name in NEW_PARTS.items():
        for known, value in getattr(second, part).state_dict().items():
            assert known == name or torch.equal(value, state[part][known]), known
    second.train()
    assert second.step == 4


def test_a_state_of_another_network_is_refused(tiny_trainer):
    path = tiny_trainer(tiny_recipe(1)).save()
    state = torch.load(path, weights_only=True)
    state["model"]["third_fusion.weight"] = torch.zeros(2)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="third_fusion"):
        tiny_trainer(tiny_recipe(1)).resume()


def test_accumulated_gradients_are_the_mean_over_lessons(tiny_trainer):
    recipe = tiny_recipe(1, num_accumulated=2, clip_norm=1e9)
    trainer = tiny_trainer(recipe)
    gradients = []
    learn = trainer._learn

    def watch(*arguments):
        before = gradient_of(trainer.model)
        answer = learn(*arguments)
        gradients.append(gradient_of(trainer.model) - before)
        return answer

    trainer._learn = watch
    trainer.optimiser.step = lambda: None
    _, loss, _ = trainer.train_step()
    assert loss > 0
    total = gradient_of(trainer.model)
    torch.testing.assert_close(total, gradients[0] + gradients[1])
    assert not torch.equal(gradients[0], gradients[1]), "both lessons were the same"


def gradient_of(model):
    gradient = model.segmenter.mask_decoder.iou_token.weight.grad
    return torch.zeros_like(model.segmenter.mask_decoder.iou_token.weight) if gradient is None else gradient.clone()


def test_frozen_weights_stay_and_are_open_again_in_the_next_phase(tiny_trainer):
    phase = replace(tiny_recipe(2).phases[0], mix={"ground": 1.0})
    recipe = tiny_recipe(4, phases=(replace(phase, frozen=("segmenter",)), phase))
    trainer = tiny_trainer(recipe)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train(lambda: trainer.step == 2)
    after = trainer.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "segmenter" not in changed
    assert {"language", "prompter"} <= changed
    before = {name: value.clone() for name, value in after.items()}
    trainer.train()
    assert any(
        not torch.equal(before[n], v) for n, v in trainer.model.state_dict().items() if n.startswith("segmenter")
    )


def test_metrics_have_one_header_and_numbers_that_pandas_reads(tiny_trainer):
    pandas = pytest.importorskip("pandas")
    trainer = tiny_trainer(tiny_recipe(6, log_every_steps=2))
    trainer.train(lambda: trainer.step == 4)
    again = tiny_trainer(tiny_recipe(6, log_every_steps=2))
    again.resume()
    again.train()
    table = pandas.read_csv(trainer.metrics.path)
    assert tuple(table.columns) == COLUMNS
    assert set(table["step"]) == {2, 4, 6}
    assert table["num_lessons"].sum() == 6
    assert table["loss"].dtype == float
    assert table["loss"].notna().all()
    assert table.loc[table["lesson"] == "follow", "alignment"].isna().all()


def test_rows_of_steps_that_are_taken_again_are_forgotten(tiny_trainer):
    trainer = tiny_trainer(tiny_recipe(1))
    rows = [{"step": step, "lesson": "ground", "loss": 1.0} for step in (2, 4, 6)]
    trainer.metrics.append(rows)
    with trainer.metrics.path.open("a") as file:
        file.write("8,cut sho")
    trainer.metrics.forget_after(4)
    with trainer.metrics.path.open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]


def test_pictures_and_plot_are_written_and_change_nothing(tiny_trainer):
    pytest.importorskip("matplotlib")
    seen = tiny_trainer(tiny_recipe(3, picture_every_steps=1), "seen")
    seen.train()
    unseen = tiny_trainer(tiny_recipe(3), "unseen")
    unseen.train()
    assert_same_weights(seen, unseen)
    pictures = {path.name for path in (seen.out_dir / "pictures").iterdir()}
    kinds = ("follow", "ground", "propagate")
    assert pictures == {f"{kind}_{step:07d}.png" for kind in kinds for step in (1, 2, 3)}
    assert (seen.out_dir / "losses.png").stat().st_size > 1000


def test_tensorboard_holds_losses_and_pictures(tiny_trainer):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = tiny_trainer(tiny_recipe(2, log_every_steps=1, picture_every_steps=2))
    trainer.train()
    events = EventAccumulator(str(trainer.out_dir / "tensorboard")).Reload()
    assert "learning_rate" in events.Tags()["scalars"]
    assert any(name.endswith("/loss") for name in events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"follow", "ground", "propagate"}


def test_accelerate_on_one_process_gives_the_same_weights(tiny_trainer):
    pytest.importorskip("accelerate")
    from napari_virst.training.devices import SeveralDevices

    recipe = tiny_recipe(4, num_accumulated=2)
    plain = tiny_trainer(recipe, "plain")
    plain.train()
    wrapped = tiny_trainer(recipe, "wrapped", devices=SeveralDevices(cpu=True))
    wrapped.train(lambda: wrapped.step == 2)
    resumed = tiny_trainer(recipe, "wrapped", devices=SeveralDevices(cpu=True))
    assert resumed.resume()
    resumed.train()
    assert_same_weights(plain, resumed)


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.append({tests!r})
import torch
from fixtures.learners import build_tiny, tiny_recipe
from napari_virst.training.devices import SeveralDevices
from napari_virst.training.loop import Trainer
torch.set_num_threads(1)
devices = SeveralDevices(cpu=True)
trainer = Trainer(*build_tiny(), tiny_recipe(4, num_accumulated=2), Path({out!r}), devices=devices)
trainer.train()
torch.save(trainer.model.state_dict(), Path({out!r}) / f"rank{{devices.rank}}.pt")
"""


def test_two_processes_hold_the_same_weights_and_learn_from_different_lessons(tiny_trainer, tmp_path):
    pytest.importorskip("accelerate")
    out = tmp_path / "two"
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(TESTS), out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = tiny_trainer(tiny_recipe(4, num_accumulated=2), "alone")
    alone.train()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert any(not torch.equal(value, first[name]) for name, value in alone.model.state_dict().items())
