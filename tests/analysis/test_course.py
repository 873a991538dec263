"""Over training: the repeated run is the run, and the bound holds on the way."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ssmrec.analysis import Effort, Run, analyze
from ssmrec.analysis.course import course_section, spread
from ssmrec.config import merged
from ssmrec.training import Listener, resolve, train_run

SMALL = {
    "model": {"name": "lightgcn", "dim": 8, "layers": 1},
    "train": {"protocol": "fixed", "epochs": 4, "batch_size": 128, "lr": 0.02, "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5, 20]},
}
EFFORT = Effort(rows=100, users=30, theory_users=5, pairs=100, nodes=30)


def test_spread_begins_dense_and_ends_with_the_last():
    assert spread(1) == [1]
    assert spread(4) == [1, 2, 3, 4]
    assert spread(100, 5) == [1, 3, 10, 32, 100]  # powers of the root of ten
    assert len(spread(1000)) <= 12 and spread(1000)[-1] == 1000


@pytest.fixture(scope="module")
def course(tastes):
    """`course(settings)`: a run, its analysis with the repeated training."""

    def make(**settings):
        run = Run(train_run(resolve(merged(SMALL, settings)), tastes), tastes.test)
        return run, analyze(run, groups=3, k=5, effort=EFFORT, over_training=True)

    return make


def test_the_repeated_training_ends_as_the_run_did(course):
    run, result = course()
    training = result["training"]
    points, last = training["points"], training["points"][-1]
    assert [point["epoch"] for point in points] == [0, 1, 2, 3, 4]
    assert training["difference"] == 0
    assert last["ndcg"] == run.trained.metrics["test"]["ndcg@5"]
    assert last["recall"] == run.trained.metrics["test"]["recall@5"]
    assert last["bound"] == {p["name"]: p["terms"] | {"gap": p["gap"]} for p in result["bound"]}
    final, first = result["negatives"]["stages"][-1], result["negatives"]["stages"][0]
    for loss in ("ssm", "bpr", "bce"):
        assert last["negatives"][loss] == final[loss]
        assert points[0]["negatives"][loss] == first[loss]
    assert [p["loss"] for p in points[1:]] == [row["loss"] for row in run.trained.history]
    assert not any("keeps the final model only" in note for note in result["notes"])


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_it_ends_at_the_epoch_that_was_kept(course, protocol):
    """`valid` trains on to look for a better epoch, with a rate that depends on how long it may."""
    more = {"epochs": 9, "patience": 2, "protocol": protocol, "lr_decay": "linear"}
    run, result = course(train=more)
    assert result["training"]["points"][-1]["epoch"] == run.trained.metrics["best_epoch"]
    assert result["training"]["difference"] == 0


class Heard(Listener):
    """Phases that were announced; Ctrl-C in the epoch `stop_at`."""

    def __init__(self, stop_at=0):
        self.phases, self.stop_at = [], stop_at

    def phase(self, name, epochs, device):
        self.phases.append((name, epochs, device))

    def step(self, epoch, done, total, loss):
        if epoch == self.stop_at:
            raise KeyboardInterrupt


def test_it_is_announced_and_can_be_broken_off(tastes):
    """Half a training is not shown as the whole one."""
    run = Run(train_run(resolve(SMALL), tastes), tastes.test)
    again = {"groups": 3, "k": 5, "effort": EFFORT, "over_training": True}
    analyze(run, **again, listener=(whole := Heard()))
    assert whole.phases == [("over training", 4, "cpu")]
    with pytest.raises(KeyboardInterrupt):
        analyze(run, **again, listener=Heard(stop_at=3))


def test_the_bound_holds_after_every_epoch(course):
    for point in course()[1]["training"]["points"]:
        for terms in point["bound"].values():
            chain = [terms[name] for name in ("neg_log_dcg", "neg_log_gain", "log_rank", "ssm")]
            assert all(a <= b + 1e-9 for a, b in pairwise(chain))
            assert terms["gap"] == pytest.approx(terms["ssm"] - terms["neg_log_dcg"])


def test_closed_forms_have_no_course(tastes):
    solved = resolve({"model": {"name": "svd", "dim": 8}, "train": {"protocol": "fixed"}})
    run = Run(train_run(solved, tastes), tastes.test)
    assert course_section(run.subject(), 5, 20, 10, 0) is None
