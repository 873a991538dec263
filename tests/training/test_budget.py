"""A budget and no model named: EASE and SVD, then LightGCN in the time left, and validation chooses."""

from itertools import pairwise

import pytest
import torch

from ssmrec.errors import RunError
from ssmrec.training import Checkpoint, Listener, resolve, train_best, train_run
from ssmrec.training import budget as budget_room


class Notes(Listener):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def budget(seconds, **parts):
    more = {"batch_size": 64, "epochs": 3, **parts.pop("train", {})}
    return resolve({"train": {"budget": seconds, **more}, **parts})


def test_no_time_left_for_lightgcn_gives_the_first_svd(tastes, monkeypatch, caplog):
    """And what lightgcn would take is not measured then."""
    monkeypatch.setattr(budget_room, "_epoch_seconds", lambda *_: pytest.fail("is measured"))
    notes = Notes()
    trained = train_best(budget(1e-6), tastes, notes)
    assert trained.config.model["name"] == "svd" and trained.config.model["dim"] == 32
    assert trained.config.ranking.similarity == "dot" and not trained.config.train.choose_model
    assert [one["dim"] for one in trained.metrics["candidates"]] == [32]
    assert "the best of 1 by ndcg@20 on validation: svd with 32 dimensions" in notes.told
    assert "lightgcn is left out: 0.0 s of the budget are left" in notes.told
    assert any(told.startswith("ease is left out: it would take some") for told in notes.told)
    assert "name no model" not in caplog.text  # none was
    assert trained.config.train.budget == 1e-6


def test_too_little_time_for_lightgcn_is_told(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "_EPOCHS", 10**9)
    notes = Notes()
    train_best(budget(600.0), tastes, notes)
    told = [text for text in notes.told if "left out: 1000000000 epochs would take" in text]
    assert len(told) == 1 and "s of the budget are left" in told[0]


def test_with_time_the_best_on_validation_is_returned_and_tested(tastes):
    trained = train_best(budget(600.0), tastes)
    candidates = trained.metrics["candidates"]
    best = max(candidates, key=lambda one: one["valid ndcg@20"])
    assert candidates[-1]["model"] == "lightgcn + ssm"
    assert trained.config.model["name"] == best["model"].partition(" ")[0]
    assert trained.metrics["valid"]["ndcg@20"] == best["valid ndcg@20"]
    assert 0 < trained.metrics["test"]["ndcg@20"] <= 1
    assert trained.metrics["reference"]["most_popular"]


def test_svd_grows_while_validation_rises_and_time_lasts(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2, 4, 8))
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    *solved, _ = train_best(budget(600.0), tastes).metrics["candidates"]
    values = [one["valid ndcg@20"] for one in solved]
    assert [one["dim"] for one in solved] == [1, 2, 4, 8][: len(solved)]
    assert all(a < b for a, b in pairwise(values[:-1]))
    assert len(solved) == 4 or values[-1] <= values[-2]
    monkeypatch.setattr(budget_room, "_DOUBLING", 1e9)
    first, *_ = train_best(budget(600.0), tastes).metrics["candidates"]
    assert [first["dim"], _[0]["model"]] == [1, "lightgcn + ssm"]


def test_ease_is_tried_with_more_l2_while_validation_rises(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "EASE_L2", (1.0, 10.0, 100.0, 1e6))
    tried = train_best(budget(600.0), tastes).metrics["candidates"]
    ease = [one for one in tried if one["model"] == "ease"]
    values = [one["valid ndcg@20"] for one in ease]
    assert [one["l2"] for one in ease] == [1.0, 10.0, 100.0, 1e6][: len(ease)]
    assert all(a < b for a, b in pairwise(values[:-1]))
    assert len(ease) == 4 or values[-1] <= values[-2]
    alone = train_run(resolve({"model": {"name": "ease", "l2": 1.0}}), tastes)
    assert values[0] == alone.metrics["valid"]["ndcg@20"]


def test_ease_may_be_the_best(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1,))
    monkeypatch.setattr(budget_room, "_EPOCHS", 10**9)  # no time for lightgcn
    notes = Notes()
    trained = train_best(budget(600.0), tastes, notes)
    model = trained.config.model
    assert model["name"] == "ease" and trained.config.ranking.similarity == "dot"
    assert any(f"on validation: ease with l2 {model['l2']:g}" in text for text in notes.told)
    assert trained.config.train.budget == 600.0 and trained.metrics["test"]


@pytest.mark.parametrize(("limit", "value"), [("_MATRIX", 4 * 5**2), ("_SHARE", 0.0)])
def test_ease_is_left_out_where_items_are_many_or_time_is_short(tastes, monkeypatch, limit, value):
    monkeypatch.setattr(budget_room, limit, value)
    notes = Notes()
    tried = train_best(budget(600.0), tastes, notes).metrics["candidates"]
    assert {one["model"] for one in tried} == {"svd", "lightgcn + ssm"}
    assert sum(told.startswith("ease is left out: ") for told in notes.told) == 1


def test_svd_is_tried_where_ease_runs_out_of_memory(tastes, monkeypatch):
    stop_at(monkeypatch, 1, RunError("ease: cannot be solved (memory)"))
    notes = Notes()
    tried = train_best(budget(600.0), tastes, notes).metrics["candidates"]
    assert {one["model"] for one in tried} == {"svd", "lightgcn + ssm"}
    assert "ease: cannot be solved (memory); going on" in notes.told


@pytest.mark.parametrize(
    "named",
    [
        {"model": {"name": "mf"}},
        {"loss": {"name": "bpr"}},
        {"negatives": {"name": "uniform"}},
        {"train": {"protocol": "fixed"}},
        {"train": {"metric": "ndcg@7"}},
        {"train": {"optimizer": "lazy_adam"}},
        {"ranking": {"similarity": "cosine"}},
    ],
)
def test_what_was_named_is_kept(named):
    assert not budget(1e-3, **named).train.choose_model


def stop_at(monkeypatch, call, error=KeyboardInterrupt):
    """Ctrl-C, or an error, at the given call of `train_run`."""
    calls = []

    def broken(*args):
        calls.append(args)
        if len(calls) == call:
            raise error
        return train_run(*args)

    monkeypatch.setattr(budget_room, "train_run", broken)


def test_ctrl_c_keeps_what_was_solved(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2, 4))
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    stop_at(monkeypatch, 2)
    trained = train_best(budget(600.0), tastes)
    assert [one["dim"] for one in trained.metrics["candidates"]] == [1]
    assert trained.metrics["stopped"] == "interrupted" and trained.metrics["test"]


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (2, RunError("svd: cannot be solved"), "svd: cannot be solved"),
        (3, torch.OutOfMemoryError("CUDA out of memory.\nAdvice"), "CUDA out of memory."),
        (3, MemoryError(), "out of memory"),
    ],
)
def test_what_was_solved_is_kept_where_memory_runs_out(tastes, monkeypatch, call, error, told):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2))
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    stop_at(monkeypatch, call, error)
    notes = Notes()
    trained = train_best(budget(600.0), tastes, notes)
    assert trained.metrics["test"]
    assert [one["dim"] for one in trained.metrics["candidates"]][: call - 1] == [1, 2][: call - 1]
    assert f"{told}; going on with what was solved before" in notes.told


def test_ctrl_c_before_anything_is_solved_gives_nothing(tastes, monkeypatch):
    stop_at(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_best(budget(600.0), tastes)


class Interrupt(Listener):
    """Ctrl-C when the epoch ends."""

    def epoch(self, record, best):
        raise KeyboardInterrupt


def test_an_interrupted_lightgcn_is_held_against_the_solved_ones(tastes, tmp_path):
    """Also: it goes on with its own dimensions, whatever the machine would afford now."""
    config = budget(600.0, train={"epochs": 2})
    settings = config.model_dump(mode="json")
    checkpoint = Checkpoint(tmp_path, "data", settings, resume=False)
    trained = train_best(config, tastes, Interrupt(), checkpoint)
    values = [one["valid ndcg@20"] for one in trained.metrics["candidates"]]
    assert trained.metrics["valid"]["ndcg@20"] == max(values)
    assert trained.metrics["stopped"] == "interrupted"


def test_resuming_takes_the_model_of_the_checkpoint(tastes, tmp_path, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1,))  # worse than lightgcn
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    config = budget(600.0, train={"epochs": 2})
    settings = config.model_dump(mode="json")
    begun = Checkpoint(tmp_path, "data", settings, resume=False)
    monkeypatch.setattr(begun, "remove", lambda: None)
    first = train_best(config, tastes, None, begun)
    assert begun.path.exists()
    monkeypatch.setattr(budget_room, "LIGHTGCN_DIMS", (16,))
    again = Checkpoint(
        tmp_path, "data", budget(500.0, train={"epochs": 2}).model_dump(mode="json"), True
    )
    assert again.model is not None and again.model["dim"] == 64
    resumed = train_best(config, tastes, None, again)
    svd, lightgcn = resumed.metrics["candidates"]
    assert lightgcn["dim"] == 64 and resumed.config.model["name"] == "lightgcn"
    assert resumed.metrics["valid"] == first.metrics["valid"]
    assert resumed.config.train.budget < 600.0 - svd["seconds"]  # what is solved again counts


def test_a_named_model_does_not_go_on_from_a_chosen_one(tastes, tmp_path):
    config = budget(600.0, train={"epochs": 1})
    train_best(
        config, tastes, None, Checkpoint(tmp_path, "d", config.model_dump(mode="json"), False)
    )
    named = budget(600.0, train={"epochs": 1}, model={"name": "lightgcn"})
    with pytest.raises(RunError, match="a model is named in one of the two commands only"):
        Checkpoint(tmp_path, "d", named.model_dump(mode="json"), True)


def test_without_a_choice_it_says_what_is_trained(caplog):
    with caplog.at_level("INFO", "ssmrec"):
        budget(5.0, train={"protocol": "fixed"})
    assert "lightgcn is trained" in caplog.text


def test_no_budget_no_choice():
    assert not resolve({}).train.choose_model


def test_settings_once_resolved_stay_what_they_are():
    once = budget(5.0)
    assert once.train.choose_model and resolve(once) == once
