"""Training is deterministic, and a run that is stopped anywhere ends as an undisturbed one does."""

import os
import signal
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from mlclib import config
from mlclib.common.errors import UserError
from mlclib.metrics.scores import evaluate
from mlclib.models import base
from mlclib.models.losses import Loss
from mlclib.training.inputs import Maps
from mlclib.training.optimisation import rate_factor
from mlclib.training.trainer import Interrupted, Trainer


class Toy(torch.utils.data.Dataset):
    """40 images of 6 numbers, of which the first 3 decide the 3 labels."""

    def __init__(self, images: int = 40, seed: int = 0):
        values = np.random.default_rng(seed).standard_normal((images, 6)).astype(np.float32)
        self.values, self.targets = values, np.where(values[:, :3] > 0, 1, -1).astype(np.int8)

    def __len__(self):
        return len(self.values)

    def __getitems__(self, keys):
        rows = [row for _, row in keys]
        return torch.from_numpy(self.values[rows]), torch.from_numpy(self.targets[rows])


class ToyModel(torch.nn.Module):
    """A linear classifier with dropout, so that random numbers matter, and the interface of a Classifier."""

    def __init__(self, explode_at: int | None = None):
        super().__init__()
        self.backbone = torch.nn.Identity()
        self.backbone.frozen, self.sums_over_batch = False, False
        self.options, self.label_loss = base.Options(), Loss()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3))
        self.head = torch.nn.Linear(16, 3)
        self.explode_at, self.calls = explode_at, 0

    def forward(self, inputs):
        self.calls += self.training
        logits = self.head(self.net(inputs))
        return base.Output(logits * torch.nan if self.explode_at == self.calls else logits)

    def loss(self, output, targets):
        return torch.nn.functional.soft_margin_loss(output.logits, targets.float())

    share = base.Classifier.share

    def parameter_groups(self, lr, backbone_factor):
        return [{"params": list(self.parameters()), "lr": lr}]


RECIPE = config.Training(epochs=3, batch_size=8, learning_rate=0.05, threads=1)
EVERY_STEP = replace(RECIPE, checkpoint_minutes=0.0)


def trained(folder, recipe=RECIPE, seed=0, val=None, **model):
    torch.manual_seed(seed)
    net = ToyModel(**model)
    trainer = Trainer(net, Toy(), Toy(20, 1), recipe, seed, folder, val=val)
    return net, trainer, trainer.run()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def without_times(history):
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "seconds")} for row in history]


def test_the_same_configuration_gives_the_same_bits_with_any_number_of_workers_and_another_seed_others(tmp_path):
    one, _, _ = trained(tmp_path / "a")
    other, _, _ = trained(tmp_path / "b", replace(RECIPE, workers=2))
    third, _, _ = trained(tmp_path / "c", seed=1)
    assert same(one, other) and not same(one, third)


PARTS = [({}, 0), ({"optimizer": "sgd"}, 0), ({"accumulate": 2}, 0), ({"ema": 0.9}, 15)]


@pytest.mark.parametrize(("recipe", "val"), PARTS, ids=str)
@pytest.mark.parametrize("step", [1, 5, 12])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(tmp_path, recipe, val, step, monkeypatch):
    recipe, val = replace(RECIPE, **recipe), Toy(val, 2) if val else None
    whole, _, undisturbed = trained(tmp_path / "whole", recipe, val=val)

    stopped, original = [0], Trainer.step

    def stopping(self, *arguments):
        stopped[0] += 1
        if stopped[0] == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(Interrupted, match="the same command goes on from there"):
        trained(tmp_path / "cut", recipe, val=val)
    again, trainer, state = trained(tmp_path / "cut", recipe, val=val)
    assert stopped[0] == 15  # no step was done twice
    assert same(whole, again)
    assert without_times(state.history) == without_times(undisturbed.history)
    ends = {"last", "ema"} if recipe.ema else {"last"}
    assert set(state.logits) == ends | {"best_val" if val else "best_test"}
    assert set(state.val) == (ends | {"best_val"} if val else set())
    for logits, expected in ((state.logits, undisturbed.logits), (state.val, undisturbed.val)):
        assert all(torch.equal(logits[key], expected[key]) for key in expected)
    assert not list((tmp_path / "whole").glob("checkpoint-*"))  # it ended before one was due


def test_a_checkpoint_is_written_when_its_minutes_have_gone_by_also_within_an_epoch(tmp_path, monkeypatch):
    """By a clock of which each step takes a minute; after step 7, the second of epoch 2, the run dies."""
    whole, _, _ = trained(tmp_path / "whole")
    minutes, written, step, save = [0], [], Trainer.step, Trainer._save

    def ticking(self, *arguments):
        minutes[0] += 1
        if minutes[0] == 9:
            raise MemoryError
        return step(self, *arguments)

    def noting(self):
        written.append(minutes[0])
        save(self)

    monkeypatch.setattr(Trainer, "step", ticking)
    monkeypatch.setattr(Trainer, "_save", noting)
    monkeypatch.setattr("mlclib.training.trainer.time.monotonic", lambda: 60.0 * minutes[0])
    recipe = replace(RECIPE, checkpoint_minutes=3.0)
    with pytest.raises(MemoryError):
        trained(tmp_path / "cut", recipe)
    again, _, _ = trained(tmp_path / "cut", recipe)
    assert written[:2] == [3, 6] and len(list((tmp_path / "cut").glob("checkpoint-*.pt"))) == 2
    assert same(whole, again) and minutes[0] == 9 + 15 - 6  # two steps were done twice


def test_with_a_validation_part_the_test_images_are_scored_once_when_the_last_epoch_is_done(tmp_path, monkeypatch):
    scored, original = [], Trainer.evaluate

    def noting(self, data, model=None):
        scored.append((len(data), self.state.epoch))
        return original(self, data, model)

    monkeypatch.setattr(Trainer, "evaluate", noting)
    _, _, state = trained(tmp_path / "a", val=Toy(15, 2))
    assert [epoch for size, epoch in scored if size == 15] == [0, 1, 2]
    assert [epoch for size, epoch in scored if size == 20] == [3, 3]  # by the last weights and by those of best_val
    assert "best_test" not in state.logits and not any(column.startswith("test") for column in state.history[0])

    scored.clear()
    _, _, watched = trained(tmp_path / "b", replace(RECIPE, eval_test_each_epoch=True), val=Toy(15, 2))
    assert [epoch for size, epoch in scored if size == 20] == [0, 1, 2, 3]
    assert [row["mAP"] for row in watched.history] == [row["mAP"] for row in state.history]
    assert watched.best_test_mAP == max(row["test_mAP"] for row in watched.history)


def test_best_val_is_the_best_epoch_of_the_validation_images_alone(tmp_path):
    """Validation targets turned round select the epoch that learnt least; its weights score the test images."""
    against = Toy(15, 2)
    against.targets = -against.targets
    recipe = replace(RECIPE, epochs=6)
    net, trainer, state = trained(tmp_path, recipe, val=against)
    scores = [row["mAP"] for row in state.history]
    assert state.best_val_epoch == 1 + int(np.argmax(scores)) < 6
    last = {key: value.clone() for key, value in net.state_dict().items()}
    net.load_state_dict(state.best_val_weights)
    assert torch.equal(trainer.evaluate(Toy(20, 1), net), state.logits["best_val"])
    net.load_state_dict(last)
    assert torch.equal(trainer.evaluate(Toy(20, 1), net), state.logits["last"])


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_of_a_batch_give_the_loss_of_the_whole(tmp_path, parts):
    losses = []
    for accumulate in (1, parts):
        torch.manual_seed(0)
        net, recipe = ToyModel(), replace(RECIPE, epochs=1, accumulate=accumulate)
        net.net = torch.nn.Linear(6, 16)  # batch norm and dropout see parts otherwise than a whole
        state = Trainer(net, Toy(), Toy(20, 1), recipe, 0, tmp_path / str(accumulate)).run()
        losses.append(state.history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"nan at epoch 2, step 3, learning rate .*is .*checkpoint-00001-0000002"):
        trained(tmp_path, EVERY_STEP, explode_at=5 + 3)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capsys):
    whole, _, _ = trained(tmp_path / "whole")
    with pytest.raises(UserError):
        trained(tmp_path / "cut", EVERY_STEP, explode_at=10 + 3)
    newest = sorted((tmp_path / "cut").glob("*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    again, _, _ = trained(tmp_path / "cut")
    assert f"{newest} is damaged" in capsys.readouterr().out
    assert same(whole, again)


def test_a_batch_size_that_leaves_too_small_a_last_batch_is_refused(tmp_path):
    with pytest.raises(UserError, match="choose another batch_size"):
        trained(tmp_path, replace(RECIPE, batch_size=13, accumulate=2))


COSINE = [(1 + np.cos(np.pi * step / 50)) / 2 for step in range(50)]
SCHEDULES = {"constant": [1.0] * 50, "step": [1.0] * 20 + [0.1] * 20 + [0.01] * 10, "cosine": COSINE}


@pytest.mark.parametrize("schedule", [*SCHEDULES, "one-cycle"])
def test_a_schedule_is_a_function_of_the_step(schedule):
    recipe = replace(RECIPE, epochs=10, schedule=schedule, step_epochs=(4, 8))
    factors = [rate_factor(recipe, step, 5) for step in range(50)]
    if schedule == "one-cycle":
        assert factors[0] == pytest.approx(0.04) and factors[10] == pytest.approx(1.0) and factors[-1] < 0.01
    else:
        assert factors == pytest.approx(SCHEDULES[schedule])


def test_norms_over_a_batch_are_warned_of_when_it_is_taken_in_parts(tmp_path, capsys):
    torch.manual_seed(0)
    model = ToyModel()
    model.sums_over_batch = True
    Trainer(model, Toy(), Toy(20, 1), replace(RECIPE, accumulate=2), 0, tmp_path)
    assert "norms over a batch" in capsys.readouterr().out


def test_few_images_are_taken_again_until_an_epoch_has_as_many_steps_as_with_all():
    maps = np.arange(12, dtype=np.float16).reshape(12, 1, 1, 1)
    targets = np.eye(12, dtype=np.int8)
    few = Maps({4: maps}, targets, np.resize([7, 2, 5], 12))
    assert len(few) == 12 and few.targets.argmax(1).tolist() == [7, 2, 5] * 4
    values, seen = few.__getitems__([(0, row) for row in (0, 4, 11)])
    assert values[4].flatten().tolist() == [7, 2, 5] and torch.equal(seen, torch.from_numpy(targets[[7, 2, 5]]))


CHANGES = [
    {},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"momentum": 0.5},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decay_biases": False},
    {"clip_norm": 0.01},
    {"warmup_epochs": 1.0},
    {"step_factor": 0.5},
    {"step_epochs": (2,)},
    {"precision": "bfloat16"},
]


def test_every_part_of_a_recipe_changes_what_is_learnt(tmp_path):
    plain = replace(RECIPE, optimizer="sgd", schedule="step", step_epochs=(1,))
    models = [trained(tmp_path / str(n), replace(plain, **change))[0] for n, change in enumerate(CHANGES)]
    for (one, a), (other, b) in combinations(zip(CHANGES, models, strict=True), 2):
        assert not same(a, b), (one, other)


def test_best_test_and_ema_are_the_logits_of_that_epoch_and_of_the_averaged_weights(tmp_path):
    against = Toy(20, 1)
    against.targets = -against.targets  # the epoch that learnt least is the best
    torch.manual_seed(0)
    trainer = Trainer(ToyModel(), Toy(), against, replace(RECIPE, epochs=6, ema=0.9), 0, tmp_path)
    state = trainer.run()
    scores = [row["mAP"] for row in state.history]
    assert state.best_test_epoch == 1 + int(np.argmax(scores)) < 6
    assert evaluate(state.logits["best_test"].numpy(), against.targets)["mAP"] == max(scores)
    assert torch.equal(trainer.evaluate(against, trainer.ema), state.logits["ema"])
    assert not torch.equal(state.logits["ema"], state.logits["last"])
