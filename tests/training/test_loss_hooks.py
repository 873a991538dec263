"""What the training loop does for losses that need more than logits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from command_line import ssmrec
from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import Batch, Negatives, Uniform
from ssmrec.testing import toy
from ssmrec.training import Checkpoint, Listener, Trainer, checkpoint, train_run
from ssmrec.training.config import resolve
from ssmrec.training.pairs import default_negatives, mismatches
from ssmrec.training.step import objective

NEW = sorted(set(LOSSES) - {"ssm", "softmax", "bpr", "bce"})


class Killed(BaseException):
    """Ends the process as far as training is concerned."""


class Kill(Listener):
    """Dies in the given epoch."""

    def __init__(self, epoch: int):
        self.last = epoch

    def epoch(self, record, best):
        if record["epoch"] == self.last:
            raise Killed


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("advinfonce", {"adv_every": 2, "adv_lr": 0.1}),  # own rate, tables not trained at first
        ("adap_tau", {"warm_epochs": 1}),  # weights from the epoch before
        ("mawu", {}), ("bc", {"bias_epochs": 2}), ("sl_at_k", {"refresh": 4}), ("dpl", {}), ("invcf", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kill_in", [2, 4])
def test_resumed_equals_unbroken(small, tastes, tmp_path, monkeypatch, loss, settings, kill_in):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    config = small(
        loss={"name": loss, **settings},
        model={"name": "mf"},
        train={"protocol": "fixed", "epochs": 5, "lr_decay": "linear"},
    )
    unbroken = train_run(config, tastes)
    with pytest.raises(Killed):
        train_run(config, tastes, Kill(kill_in), Checkpoint(tmp_path, "key", {}, False))
    resumed = train_run(config, tastes, None, Checkpoint(tmp_path, "key", {}, True))
    assert torch.equal(resumed.model.table, unbroken.model.table)
    losses = [[row["loss"] for row in run.history] for run in (resumed, unbroken)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("loss", "settings", "still"),
    [
        ("advinfonce", {"adv_every": 2, "adv_lr": 0.1}, {2, 4}),
        ("bc", {"bias_epochs": 3}, {1, 2, 3}),
    ],
)
def test_the_model_stands_still_while_only_the_loss_learns(small, tastes, loss, settings, still):
    """With L2 on: neither loss nor penalty moves the model; and the loss's tables move in turn."""
    config = small(loss={"name": loss, **settings}, train={"l2": 0.1})
    trainer = Trainer(config, tastes.train, 4)
    seen = [trainer.model.table.detach().clone()]
    own = [next(iter(trainer.loss.parameters())).detach().clone()]

    def note(t):
        seen.append(t.model.table.detach().clone())
        own.append(next(iter(t.loss.parameters())).detach().clone())

    trainer.run(note)
    for epoch in range(1, 5):
        assert torch.equal(seen[epoch], seen[epoch - 1]) == (epoch in still)
        assert torch.equal(own[epoch], own[epoch - 1]) == (epoch not in still)


def test_linear_decay_keeps_the_ratio_of_the_rates(small, tastes):
    train = {"lr": 0.02, "lr_decay": "linear", "epochs": 4}
    trainer = Trainer(small(loss={"name": "advinfonce"}, train=train), tastes.train, 4)
    trainer._set_rate(0.25)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.015, 0.75 * 5e-5]


def test_a_loss_without_parameters_adds_no_group(small, tastes):
    trainer = Trainer(small(loss={"name": "ssm"}), tastes.train, 1)
    assert len(trainer.optimizer.param_groups) == 1


@pytest.mark.parametrize("loss", ["directau", "mawu", "invcf"])
def test_losses_on_vectors_draw_nothing_and_rank_by_dot(loss):
    config = resolve({"loss": {"name": loss}, "model": {"name": "mf"}})
    assert config.negatives["name"] == "in_batch" and not config.negatives["exclude_known"]
    assert config.ranking.similarity == "dot" and mismatches(config) == []


@pytest.mark.parametrize("loss", ["directau", "mawu", "invcf"])
@pytest.mark.parametrize("negatives", [{"name": "uniform"}, {"log_q": True}, {"name": "dns"}])
def test_a_sampler_without_effect_does_not_choose_the_ranking(loss, negatives):
    config = resolve({"loss": {"name": loss}, "negatives": negatives})
    assert config.ranking.similarity == "dot"


@pytest.mark.parametrize("loss", NEW)
def test_own_samplers_are_whole_settings(loss):
    config = resolve({"loss": {"name": loss}})
    assert config.negatives["name"] == default_negatives(LOSSES[loss])["name"]


def cut(model, width):
    """A matrix factorisation that holds the first `width` numbers of each vector."""
    short = MODELS["mf"](model.config.model_copy(update={"dim": width}), toy(), torch.Generator())
    short.table.data = model.table.detach()[:, :width].clone()
    return short


@pytest.mark.parametrize("loss", ["ssm", "bpr", "directau", "adap_tau"])
def test_prefixes_average_the_loss_over_cut_vectors(loss):
    """Also the gradient: the first numbers get a part from every width."""
    train = toy()
    model = MODELS["mf"](build(MODELS["mf"].Config, {"dim": 8}, "model"), train, torch.Generator())
    sampler = Uniform(build(Uniform.Config, {"n": 5}, "negatives"), train)
    at = np.arange(1, len(train), 9)
    batch = Batch(
        torch.from_numpy(train.rows[at]).long(), torch.from_numpy(train.indices[at]).long()
    )
    drawn = Negatives(torch.tensor([3, 7, 7, 1, 20]))

    def value(model, prefixes=()):
        made = LOSSES[loss](build(LOSSES[loss].Config, {"prefixes": prefixes}, "loss"))
        made.attach(train, torch.Generator().manual_seed(0))
        return objective(model, made, sampler, batch, drawn, 0.0)[0]

    parts = [cut(model, width) for width in (2, 4, 8)]
    values = [value(part) for part in parts]
    mean = value(model, (2, 4, 8))
    torch.testing.assert_close(mean, torch.stack(values).mean())
    torch.testing.assert_close(value(model, (8,)), value(model))
    (grad,) = torch.autograd.grad(mean, model.parameters())
    want = torch.zeros_like(grad)
    for part, one in zip(parts, values, strict=True):
        (slope,) = torch.autograd.grad(one, part.parameters())
        want[:, : slope.shape[1]] += slope / 3
    torch.testing.assert_close(grad, want)
    with pytest.raises(ConfigError, match="loss.prefixes: 9 is more than the 8 numbers"):
        value(model, (2, 9))


@pytest.mark.parametrize("loss", NEW)
def test_every_loss_learns_more_than_popularity(small, tastes, loss):
    """Two groups of users with different tastes, which popularity cannot tell apart."""
    own = {"bc": {"bias_epochs": 1}, "advinfonce": {"adv_every": 4}}.get(loss, {})
    drawn = {} if default_negatives(LOSSES[loss])["name"] == "in_batch" else {"n": 64}
    config = small(
        loss={"name": loss, **own},
        negatives=drawn,
        train={"protocol": "fixed", "epochs": 8},
    )
    metrics = train_run(config, tastes).metrics
    popular = metrics["reference"]["most_popular"]["recall@5"]
    assert metrics["test"]["recall@5"] > 1.1 * popular


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    place = tmp_path_factory.mktemp("losses")
    random = np.random.default_rng(0)
    lines = [
        f"u{user},i{item}"
        for user in range(40)
        for item in random.choice(30, 8, replace=False) + 30 * (user % 2)
    ]
    (place / "pairs.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
    return place


@pytest.mark.parametrize("loss", NEW)
def test_every_loss_trains_by_name_from_the_command_line(pairs, loss):
    words = [
        "train", "pairs.csv", "--model", "lightgcn", "--loss", loss, "--epochs", "2",
        "--set", "train.batch_size=64", "--set", "train.lr=0.02", "--set", "model.dim=8",
        "--set", "train.threads=1", "--out", loss,
    ]  # fmt: skip
    code, _, err = ssmrec(*words, cwd=pairs)
    assert code == 0, err
    metrics = json.loads((pairs / loss / "metrics.json").read_text())
    assert metrics["epochs"] == 2 and 0 < metrics["test"]["recall@20"] <= 1
    rows = (pairs / loss / "history.jsonl").read_text().splitlines()
    assert all(np.isfinite(json.loads(row)["loss"]) for row in rows)


def test_epochs_of_the_loss_alone_do_not_use_up_the_patience(tastes):
    """bc spends five epochs on its popularity branch; before, patience 3 ended it with the random start."""
    settings = {"protocol": "valid", "epochs": 30, "patience": 3, "batch_size": 32, "lr": 0.05}
    config = resolve({
        "model": {"name": "mf", "dim": 8}, "loss": {"name": "bc"}, "train": settings,
        "negatives": {"name": "in_batch", "log_q": True}, "seed": 1,
    })  # fmt: skip
    run = train_run(config, tastes)
    assert [record.get("idle", False) for record in run.history[:6]] == [True] * 5 + [False]
    assert run.metrics["best_epoch"] > 5


def test_a_training_that_never_reaches_the_model_is_told(tastes):
    heard = []

    class Ears(Listener):
        def warning(self, text):
            heard.append(text)

    settings = {"protocol": "valid", "epochs": 4, "batch_size": 64}
    values = {"model": {"name": "mf", "dim": 8}, "loss": {"name": "bc"}, "train": settings}
    train_run(resolve(values), tastes, Ears())
    assert (
        len(
            [
                text
                for text in heard
                if "its 4 epochs went to the parameters of loss.name=bc" in text
            ]
        )
        == 1
    )
