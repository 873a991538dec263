"""No NaN where none belongs; a run that diverges says so and keeps what it had."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Interactions, Vocabulary
from ssmrec.losses import LOSSES
from ssmrec.negatives import SAMPLERS, Batch
from ssmrec.recommender import Recommender
from ssmrec.testing import toy
from ssmrec.training import DivergedError, Trainer, resolve
from ssmrec.training.config import make_loss, make_model, make_sampler
from ssmrec.training.step import objective

TEMPERATURES = [0.01, 0.1, 1.0, 10.0]


def step(name: str, temperature: float, scale: float, train: Interactions, **parts) -> tuple:
    """One step of a loss on MF vectors of a given length: loss, penalty, gradients."""
    config = resolve(
        {
            "model": {"name": "mf", "dim": 8},
            "loss": {"name": name, "temperature": temperature},
            **parts,
        }
    )
    model = make_model(config, train, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    loss, sampler = make_loss(config), make_sampler(config, train)
    loss.attach(train, torch.Generator().manual_seed(1))
    loss.before_epoch(1, lambda: model.vectors())
    batch = Batch(
        torch.from_numpy(train.rows[:32].astype(np.int64)),
        torch.from_numpy(train.indices[:32].astype(np.int64)),
    )
    draws = np.random.default_rng(0)
    negatives = sampler.draw(batch, draws)
    more = loss.more_items(batch, draws)
    value, penalty = objective(model, loss, sampler, batch, negatives, 1e-4, more)
    (value + penalty).backward()
    return value, penalty, [p.grad for p in model.parameters() if p.grad is not None]


def with_temperature(name: str) -> bool:
    return "temperature" in LOSSES[name].Config.model_fields


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", [name for name in LOSSES if with_temperature(name)])
def test_losses_stay_finite(name, temperature):
    """Vectors of usual length, and a hundred times as long."""
    for scale in (1.0, 100.0):
        value, penalty, gradients = step(name, temperature, scale, toy())
        assert torch.isfinite(value) and torch.isfinite(penalty)
        assert gradients and all(bool(g.isfinite().all()) for g in gradients)


@pytest.mark.parametrize("name", [name for name in LOSSES if with_temperature(name)])
def test_zero_vectors(name):
    value, penalty, gradients = step(name, 0.1, 0.0, toy())
    assert torch.isfinite(value) and penalty == 0
    assert all(bool(g.isfinite().all()) for g in gradients)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", ["ssm", "softmax", "bpr", "bce"])
def test_bfloat16_logits(name, temperature):
    """Logits of +-1 / temperature in bfloat16 give the float32 loss of the same numbers, in float32."""
    loss = LOSSES[name](LOSSES[name].Config(temperature=temperature))
    pos = (torch.tensor([1.0, -1.0, 0.0]) / temperature).bfloat16()
    neg = (torch.linspace(-1, 1, 15).view(3, 5) / temperature).bfloat16()
    out = loss(pos, neg)
    assert out.dtype == torch.float32 and bool(out.isfinite().all())
    torch.testing.assert_close(out, loss(pos.float(), neg.float()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("sampler", ["in_batch", "uniform", "popularity", "all"])
def test_no_negatives_left(sampler):
    """One user with every item: all candidates are masked, the loss is 0 and so is the gradient."""
    n = 5
    users, items = (Vocabulary(pl.Series(range(size), dtype=pl.Int64)) for size in (1, n))
    train = Interactions.from_pairs(np.zeros(n, int), np.arange(n), users, items)
    asked = {"exclude_known": True, "n": 4, "full_users": "skip"}
    there = SAMPLERS[sampler].Config.model_fields
    settings = {"name": sampler, **{key: value for key, value in asked.items() if key in there}}
    value, _, gradients = step("ssm", 0.1, 1.0, train, negatives=settings)
    assert value == 0
    assert all(float(g.abs().max()) < 1e-4 for g in gradients)  # what is left is L2


def test_a_diverged_run_keeps_its_best_model(command, tmp_path, shop):
    """A rate this high ends in NaN after the first epoch; the first epoch's model is the run."""
    words = [
        "--model",
        "mf",
        "--loss",
        "bpr",
        "--set",
        "train.lr=1e25",
        "--epochs",
        9,
        "--out",
        "run",
    ]
    code, out, err = command("train", shop, *words)
    line = err.splitlines()[-1]
    assert code == 2 and "Traceback" not in err
    assert "training diverged; bring nearer to the default: train.lr=1e+25 (0.001)" in line
    assert "the best model until then, of epoch" in line
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["stopped"] == "diverged"
    assert f"of epoch {metrics['best_epoch']}, is in run" in line
    loaded = Recommender.load(tmp_path / "run")
    assert all(bool(p.isfinite().all()) for p in loaded.trained_.model.parameters())
    assert len(loaded.recommend([1], 3)) == 3
    code, out, _ = command("evaluate", "run")
    assert code == 0 and "DIVERGED: the best model until then" in out


def test_divergence_without_validation_names_the_checkpoint(command, tmp_path, shop):
    words = ["train", shop, "--model", "mf", "--loss", "bpr", "--protocol", "fixed", "--out", "run"]
    words += ["--set", "train.lr=1e25"]
    code, _, err = command(*words, "--epochs", 9)
    line = err.splitlines()[-1]
    assert code == 2 and "training diverged" in line
    assert (
        "its checkpoint holds epoch 1: with train.epochs=1 and --resume the training ends there"
        in line
    )
    code, _, err = command(*words, "--epochs", 1, "--resume")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 1


def test_gradients_whose_squares_overflow_are_told(command, tmp_path, shop):
    """Adam would leave the rows as they are, for as many epochs as you like, and the run be a success."""
    words = ["--model", "mf", "--set", "loss.temperature=1e-30", "--epochs", 3, "--out", "run"]
    code, _, err = command("train", shop, *words)
    line = err.splitlines()[-1]
    assert (
        code == 2
        and "Adam's memory of table of the model holds NaN or infinity after epoch 1" in line
    )
    assert "bring nearer to the default: loss.temperature=1e-30 (0.2)" in line
    assert not (tmp_path / "run" / "metrics.json").exists()
    words[3] = "loss.temperature=1e-6"
    assert command("train", shop, *words)[0] == 0


def test_divergence_in_the_first_epoch_leaves_no_run(command, tmp_path, shop):
    words = ["--model", "mf", "--set", "train.lr=1e30", "--epochs", 3, "--out", "run"]
    words += ["--set", "train.batch_size=64"]
    code, _, err = command("train", shop, *words)
    assert code == 2
    assert "the loss is nan in epoch 1: training diverged; bring nearer" in err
    assert not (tmp_path / "run" / "metrics.json").exists()
    code, _, err = command("recommend", "run")
    assert code == 2 and "run: not a finished run" in err


def test_a_table_that_is_not_finite_is_named_though_the_loss_is(small_run, make_interactions):
    """Infinity in the row of a user without a pair: no loss reads it."""
    mask = np.zeros((9, 6), dtype=bool)
    mask[:8] = np.eye(8, 6, dtype=bool) | np.eye(8, 6, -2, dtype=bool)
    config = small_run(model={"name": "mf"}, train={"protocol": "fixed"})
    trainer = Trainer(config, make_interactions(mask), epochs=1)
    trainer.model.table.data[8, 3] = torch.inf
    with pytest.raises(
        DivergedError, match="table of the model holds NaN or infinity after epoch 1"
    ):
        trainer.run()
