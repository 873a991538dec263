"""A training that learns nothing is told so, once, with the causes; a normal one never."""

from __future__ import annotations

import numpy as np
import pytest

import ssmrec
from ssmrec.data import Interactions, Split
from ssmrec.evaluation import evaluate, most_popular
from ssmrec.losses import LOSSES
from ssmrec.negatives import SAMPLERS
from ssmrec.training import Listener, Trainer, Watch, resolve
from ssmrec.training.config import make_loss, make_sampler
from ssmrec.training.learning import fell, judged, likely_causes


class Ear(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.epochs: list[int] = []
        self.when = 0

    def epoch(self, record, best):
        self.epochs.append(record["epoch"])

    def warning(self, text):
        self.warnings.append(text)
        self.when = self.epochs[-1]


def trained(config, split, epochs, watched=True) -> tuple[Trainer, Ear]:
    ear = Ear()
    watch = Watch(split.valid, [split.train]) if watched else None
    trainer = Trainer(config, split.train, epochs, watch, ear)
    trainer.run()
    return trainer, ear


MF = {"model": {"name": "mf"}}


@pytest.mark.parametrize(
    ("parts", "train", "cause"),
    [
        ({}, {"lr": 1e-9}, "train.lr=1e-09 is small; take 0.001 to 0.05"),
        ({"loss": {"temperature": 1e4}}, {"lr": 1e-9}, "loss.temperature=10000 keeps all logits"),
        ({"loss": {"name": "bpr"}}, {"lr": 1e-9}, "train.lr=1e-09 is small"),
    ],
)
def test_nothing_learned_is_told_once(small, tastes, parts, train, cause):
    config = small(**MF, **parts, train={**train, "epochs": 20, "patience": 6})
    _, ear = trained(config, tastes, 20)
    assert len(ear.warnings) == 1 and 4 <= ear.when <= 7 == len(ear.epochs)
    assert "the model may not be learning. To check: " in ear.warnings[0]
    assert cause in ear.warnings[0] and "\n" not in ear.warnings[0]


def test_no_better_than_most_popular_is_told_with_both_values(small, make_interactions):
    """Two in three users have the first ten items: a model at its start is far below that."""
    random = np.random.default_rng(0)
    likes = random.random((60, 40)) < np.where(np.arange(40) < 10, 0.7, 0.05)
    held = random.random(likes.shape) < 0.3
    likes[:, 39] = True
    held[:, 39] = False
    train, valid = make_interactions(likes & ~held), make_interactions(likes & held)
    split = Split(
        train, Interactions(train.users, train.items, valid.indptr, valid.indices), None, "given"
    )
    slow = {"lr": 1e-9, "patience": 4}
    trainer, ear = trained(small(**MF, negatives={"name": "dns"}, train=slow), split, 30)
    allowed = train.item_degrees > 0
    vectors = most_popular(train)
    popular = evaluate(*vectors, split.valid, [train], ["ndcg@5"], allowed).values["ndcg@5"]
    assert trainer.state.best_value < 0.5 * popular
    (text,) = ear.warnings
    best = f"ndcg@5 is {trainer.state.best_value:.4f} at best"
    assert f"{best}, no more than the most popular items get ({popular:.4f})" in text
    # rising all the time, and still not above: told at the end
    config = small(**MF, train={"lr": 4e-3, "patience": 10})
    trainer, ear = trained(config, split, 7)
    assert trainer.state.best_epoch > 3 and fell([row["loss"] for row in trainer.state.history])
    assert trainer.state.best_value <= popular and ear.when == 7 and len(ear.warnings) == 1


def test_without_evaluations_the_loss_alone_is_judged(small, tastes):
    for lr, count in ((1e-9, 1), (0.02, 0)):
        config = small(**MF, train={"protocol": "fixed", "lr": lr, "patience": 4})
        _, ear = trained(config, tastes, 8, watched=False)
        assert len(ear.warnings) == count
    config = small(**MF, train={"protocol": "fixed", "lr": 1e-9, "patience": 4})
    _, ear = trained(config, tastes, 2, watched=False)  # too short to tell
    assert not ear.warnings


def test_a_silent_training_logs_the_warning(small, tastes, caplog):
    config = small(**MF, train={"protocol": "fixed", "lr": 1e-9, "patience": 2})
    Trainer(config, tastes.train, 4).run()
    assert caplog.text.count("the model may not be learning") == 1


def test_the_command_line_shows_it(command, tmp_path):
    rows = [f"{u},{i}" for u in range(40) for i in np.random.default_rng(u).permutation(30)[:12]]
    (tmp_path / "rows.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    words = [
        "train",
        "rows.csv",
        "--model",
        "mf",
        "--set",
        "train.lr=1e-9",
        "--set",
        "train.patience=4",
    ]
    code, _, err = command(*words, "--epochs", 8, "--out", "run")
    told = " ".join(err.split())  # the terminal breaks lines
    assert code == 0 and told.count("the model may not be learning") == 1
    assert "1 steps an epoch are few; lower train.batch_size" in told


def test_fell():
    """The mean of the later half against the first, by a thousandth of it, whatever its sign."""
    assert fell([1.0, 1.1, 0.9, 0.9]) and not fell([1.0, 0.9995, 0.9995]) and not fell([1.0])
    assert not fell([1.0, 0.5, 1.2, 1.3])  # down, and up again
    assert fell([-1.0, -1.1]) and not fell([-1.0, -0.9])
    assert not fell([0.0, 0.0]) and fell([0.0, -0.1])


def test_losses_that_move_are_not_judged(tastes):
    """A schedule of the loss, or negatives that grow harder, may raise it while the model learns."""

    def of(loss: str, sampler: str) -> bool:
        settings = {"n": 2} if "n" in SAMPLERS[sampler].Config.model_fields else {}
        config = resolve({"loss": {"name": loss}, "negatives": {"name": sampler, **settings}})
        return judged(make_loss(config), make_sampler(config, tastes.train))

    moving = {name for name in LOSSES if not of(name, "in_batch")}
    assert moving == {"advinfonce", "adap_tau", "bc", "sl_at_k"}
    assert {name for name in ("uniform", "popularity", "dns", "ahns", "tron") if not of("ssm", name)} == {
        "dns", "ahns", "tron",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "steps", "want"),
    [
        ({}, 100, ["train.lr", "train.batch_size", "loss.temperature", "which negatives fit"]),
        ({"loss": {"temperature": 0.005}}, 100, ["loss.temperature=0.005 lets the hardest"]),
        ({"loss": {"temperature": 5.0}}, 100, ["within ±0.2, so that items look alike"]),
        (
            {"loss": {"name": "bpr", "temperature": 5.0}},
            100,
            ["train.lr", "train.batch_size", "loss.temperature", "which"],
        ),
        ({"train": {"lr": 0.5, "l2": 0.1}}, 100, ["train.lr=0.5 is large", "train.l2=0.1 pulls"]),
        ({"ranking": {"similarity": "dot"}}, 100, ["ranking by dot adds it again"]),
        (
            {"loss": {"name": "bpr"}, "ranking": {"similarity": "cosine"}},
            100,
            ["inner products were trained, and ranking by cosine leaves out the lengths"],
        ),
        (
            {"loss": {"name": "gbce"}},
            100,
            ["with 256 negatives loss.name=gbce learns popularity first"],
        ),
        ({}, 3, ["3 steps an epoch are few"]),
    ],
)
def test_likely_causes(values, steps, want):
    found = likely_causes(resolve(values), steps)
    assert len(found) == len(want)
    for text, part in zip(found, want, strict=True):
        assert part in text


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("loss", ["ssm", "bpr"])
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_normal_trainings_are_left_alone(model, loss):
    """The defaults on the bundled data, and with little patience."""
    split = ssmrec.prepare("online-retail")
    config = resolve(
        {"model": {"name": model, "dim": 16}, "loss": {"name": loss}, "train": {"patience": 3}}
    )
    trainer, ear = trained(config, split, 4)
    assert not ear.warnings
    assert len(trainer.state.history) > 3
