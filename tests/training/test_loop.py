"""The loop: seeds, the best epoch, patience, learning rate, and trainings that end early."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssmrec.errors import ConfigError, RunError
from ssmrec.evaluation import evaluate
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Listener, Trainer, Watch
from ssmrec.training.device import pick_device
from ssmrec.training.seeds import numpy_generator, torch_generator


def table(trainer) -> torch.Tensor:
    return trainer.model.table.detach()


def watch(split) -> Watch:
    return Watch(split.valid, [split.train])


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"model": {"name": "mf", "init": "spectral"}},
        {"model": {"name": "svdpp"}, "negatives": {"name": "popularity", "n": 16, "log_q": True}},
        {"loss": {"name": "bpr"}},
        {"loss": {"name": "softmax"}},
    ],
)
def test_same_seed_same_bits_other_seed_other_bits(small, tastes, parts):
    found = []
    for seed in (0, 0, 1):
        trainer = Trainer(small(seed=seed, train={"epochs": 2}, **parts), tastes.train, 2)
        torch.manual_seed(int(np.random.default_rng().integers(1 << 30)))  # must not matter
        trainer.run()
        found.append((table(trainer), [record["loss"] for record in trainer.state.history]))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert not torch.equal(found[0][0], found[2][0])


@pytest.mark.parametrize("loss", ["ssm", "softmax", "bpr", "bce"])
def test_training_lowers_the_loss_and_beats_chance(small, tastes, loss):
    config = small(loss={"name": loss}, train={"epochs": 15})
    trainer = Trainer(config, tastes.train, 15, watch(tastes))
    state = trainer.run()
    assert state.history[-1]["loss"] < 0.98 * state.history[0]["loss"]
    # each user likes 20 of 40 items, so lists by chance are half right; taste is easy to learn
    assert state.best_value > 0.15


def test_case_22_the_model_after_training_is_the_best_one(small, tastes):
    """A rate far too high makes later epochs worse; what is returned is the best epoch, bit for bit."""
    config = small(train={"epochs": 40, "lr": 0.3, "patience": 3})
    trainer = Trainer(config, tastes.train, 40, watch(tastes))
    state = trainer.run()
    values = [record["ndcg@5"] for record in state.history]
    assert state.best_epoch == 1 + int(np.argmax(values)) and state.best_value == max(values)
    assert state.stopped == "patience" and len(values) == state.best_epoch + 3 < 40
    users, items = ranking_vectors(trainer.model, config.ranking.similarity)
    again = evaluate(users, items, tastes.valid, [tastes.train], ["ndcg@5"])
    assert again.values["ndcg@5"] == state.best_value
    shorter = Trainer(config, tastes.train, state.best_epoch)
    shorter.run()
    assert torch.equal(table(shorter), table(trainer))


def test_eval_every_skips_epochs_but_not_the_last(small, tastes):
    config = small(train={"epochs": 5, "eval_every": 2})
    state = Trainer(config, tastes.train, 5, watch(tastes)).run()
    assert [record["epoch"] for record in state.history if "ndcg@5" in record] == [2, 4, 5]
    assert state.stopped == "epochs"


def test_without_a_watch_the_last_epoch_is_kept(small, tastes):
    state = Trainer(small(), tastes.train, 3).run()
    assert (state.best_epoch, state.epoch, state.stopped, state.best) == (3, 3, "epochs", {})
    assert all("ndcg@5" not in record for record in state.history)


def test_zero_epochs_leave_the_start(small, tastes):
    trainer = Trainer(small(), tastes.train, 0)
    before = table(trainer).clone()
    assert trainer.run().history == []
    assert torch.equal(table(trainer), before)


def test_linear_decay_reaches_zero_after_the_last_step(small, tastes):
    """Step s of S runs at lr (1 - s / S), s from 0."""
    steps = -(-len(tastes.train) // 128)
    rates = []

    def note(trainer):
        rates.append(trainer.optimizer.param_groups[0]["lr"])

    Trainer(small(train={"lr_decay": "linear"}), tastes.train, 4).run(note)
    want = [0.02 * (1 - (epoch * steps - 1) / (4 * steps)) for epoch in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates, want, rtol=1e-12)
    rates.clear()
    Trainer(small(), tastes.train, 2).run(note)
    assert rates == [0.02, 0.02]


def test_every_pair_is_a_positive_once_an_epoch(small, tastes):
    """The listener hears of all positives; the mean loss is that of the batches."""
    heard = []

    class Ear(Listener):
        def step(self, epoch, done, total, loss):
            heard.append((epoch, done, total))

    trainer = Trainer(small(), tastes.train, 2, None, Ear())
    seen, step = [], trainer.step
    trainer.step = lambda batch, *more: seen.append(batch) or step(batch, *more)  # type: ignore
    state = trainer.run()
    wanted = sorted(zip(tastes.train.rows.tolist(), tastes.train.indices.tolist(), strict=True))
    pairs = [pair for b in seen for pair in zip(b.users.tolist(), b.items.tolist(), strict=True)]
    first, second = pairs[: len(wanted)], pairs[len(wanted) :]
    assert sorted(first) == sorted(second) == wanted and first != second
    assert {total for _, _, total in heard} == {len(tastes.train)}
    rate = len(tastes.train) / state.history[0]["train_seconds"]
    assert state.history[0]["examples_per_second"] == pytest.approx(rate)


def test_divergence_is_an_error_and_the_best_state_stays(small, tastes):
    config = small(loss={"name": "bpr"}, train={"lr": 1e30, "epochs": 5})
    trainer = Trainer(config, tastes.train, 5, watch(tastes))
    with pytest.raises(
        RunError, match=r"loss is .* in epoch 1: training diverged; bring .* train.lr=1e"
    ):
        trainer.run()


def test_ctrl_c_keeps_the_best_epoch(small, tastes):
    class Stop(Listener):
        def epoch(self, record, best):
            if record["epoch"] == 3:
                raise KeyboardInterrupt

    trainer = Trainer(small(train={"epochs": 9}), tastes.train, 9, watch(tastes), Stop())
    state = trainer.run()
    assert state.stopped == "interrupted" and state.epoch == 3 and len(state.history) == 3
    assert torch.equal(table(trainer), state.best["table"])
    assert state.best_value == max(record["ndcg@5"] for record in state.history)


def test_no_pairs_is_an_error(small, make_interactions):
    with pytest.raises(ConfigError, match="no training pairs"):
        Trainer(small(), make_interactions(np.zeros((3, 4))), 1)


def test_cuda_without_a_device_is_an_error():
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            pick_device("cuda")


def test_generators_depend_on_seed_name_and_epoch_only():
    def first(*key):
        return numpy_generator(*key).integers(1 << 60)

    keys = [(0, "shuffle", 1), (0, "shuffle", 2), (0, "negatives", 1), (1, "shuffle", 1)]
    assert len({first(*key) for key in keys}) == 4
    assert [first(*key) for key in keys] == [first(*key) for key in keys]
    draws = [torch.rand(1, generator=torch_generator(seed, "init")).item() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_budget_stops_within_an_epoch_and_what_is_reached_is_measured(small, tastes):
    """A budget that is spent before the first step still takes one step, and evaluates it."""
    trainer = Trainer(small(train={"budget": 1e-9}), tastes.train, 4, watch(tastes))
    state = trainer.run()
    assert state.stopped == "budget" and state.epoch == 1 and state.best_epoch == 1
    assert state.history[0]["share"] == 128 / len(tastes.train)
    assert state.best_value == state.history[0]["ndcg@5"]


def test_an_ample_budget_changes_nothing(small, tastes):
    free, bound = (
        Trainer(small(train={"budget": budget}), tastes.train, 3) for budget in (None, 1e6)
    )
    assert (free.run().stopped, bound.run().stopped) == ("epochs", "epochs")
    assert torch.equal(table(free), table(bound))


def test_linear_decay_follows_the_budget(small, tastes):
    """With the budget spent, the rate is zero: the step leaves the table as it was."""
    config = small(train={"budget": 1e-9, "lr_decay": "linear"})
    trainer = Trainer(config, tastes.train, 4)
    before = table(trainer).clone()
    trainer.run()
    assert torch.equal(table(trainer), before)
