"""A budget and no model named: EASE and SVD, LightGCN in the time left, their blend; validation chooses."""

from dataclasses import replace
from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssmrec.blending import budget as budget_room
from ssmrec.blending import estimate, train_best
from ssmrec.blending.blend import blend
from ssmrec.errors import RunError
from ssmrec.training import (
    Checkpoint,
    Listener,
    label,
    load_run,
    resolve,
    save_run,
    train_run,
)
from ssmrec.training.judges import some_users


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
    monkeypatch.setattr(budget_room, "epoch_seconds", lambda *_: pytest.fail("is measured"))
    notes = Notes()
    trained = train_best(budget(1e-6), tastes, notes)
    assert trained.config.model["name"] == "svd" and trained.config.model["dim"] == 32
    assert trained.config.ranking.similarity == "dot" and not trained.config.train.choose_model
    assert [one["dim"] for one in alone(trained)] == [32]
    assert "the best of 2 by ndcg@20 on validation: svd with 32 dimensions" in notes.told
    left = "lightgcn is left out: 0.0 s of the budget are left (loading compiled code and measuring"
    assert any(told.startswith(left) for told in notes.told)
    assert trained.metrics["seconds"]["measuring"] > 0
    assert any(told.startswith("ease is left out: it would take some") for told in notes.told)
    assert "name no model" not in caplog.text  # none was
    assert trained.config.train.budget == 1e-6


def test_too_little_time_for_lightgcn_is_told(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "LIGHTGCN_EPOCHS", {64: 10**9})
    notes = Notes()
    train_best(budget(600.0), tastes, notes)
    told = [text for text in notes.told if "left out: 1000000000 epochs would take" in text]
    assert len(told) == 1 and "s of the budget are left" in told[0]


def test_what_takes_too_long_at_least_is_not_measured(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "epoch_seconds", lambda *_: pytest.fail("is measured"))
    monkeypatch.setattr(budget_room, "least_epoch_seconds", lambda config, _: config.model["dim"])
    notes = Notes()
    search = budget_room._Search(budget(100.0), tastes, notes)
    assert search._affordable() is None
    (told,) = notes.told
    assert told.startswith("lightgcn is left out: 2 epochs would take 128.0 s or more, and ")


def test_the_least_seconds_are_those_of_moving_the_tables(tastes, monkeypatch):
    """By a clock that ticks once each time it is read: 2^24 numbers then take one second."""
    clock = count()
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    config = resolve({"model": {"name": "lightgcn", "dim": 8}, "train": {"batch_size": 100}})
    steps, rows = -(-len(tastes.train) // 100), tastes.train.n_users + tastes.train.n_items
    found = estimate.least_epoch_seconds(config, tastes.train)
    assert found == pytest.approx(steps * rows * 8 * 7 / 2 / 2**24)


def alone(trained):
    """The candidates that are neither popularity nor a blend."""
    tried = trained.metrics["candidates"]
    return [one for one in tried if "&" not in one["model"] and one["model"] != "popular"]


def test_with_time_the_best_on_validation_is_returned_and_tested(tastes):
    trained = train_best(budget(600.0), tastes)
    best = max(trained.metrics["candidates"], key=lambda one: one["valid ndcg@20"])
    assert alone(trained)[-1]["model"] == "lightgcn + ssm"
    assert label(trained.config) == best["model"]
    assert trained.metrics["selected_on"] == "valid"
    assert trained.metrics["valid"]["ndcg@20"] == best["valid ndcg@20"]
    assert 0 < trained.metrics["test"]["ndcg@20"] <= 1
    assert trained.metrics["reference"]["most_popular"]


def test_svd_grows_while_validation_rises_and_time_lasts(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2, 4, 8))
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    *solved, _ = alone(train_best(budget(600.0), tastes))
    values = [one["valid ndcg@20"] for one in solved]
    assert [one["dim"] for one in solved] == [1, 2, 4, 8][: len(solved)]
    assert all(a < b for a, b in pairwise(values[:-1]))
    assert len(solved) == 4 or values[-1] <= values[-2]
    monkeypatch.setattr(budget_room, "_DOUBLING", 1e9)
    first, *_ = alone(train_best(budget(600.0), tastes))
    assert [first["dim"], _[0]["model"]] == [1, "lightgcn + ssm"]


def test_popularity_has_shorter_half_lives_while_validation_rises(tastes):
    """Fractions of the span of the training pairs; the late items are those that are wanted."""
    days = np.arange(len(tastes.train)) % 128
    train = replace(tastes.train, timestamps=days.astype(np.int64) * 86400)
    valid = replace(tastes.valid, timestamps=np.full(len(tastes.valid), 130 * 86400))
    for pairs, most in ((replace(tastes, train=train, valid=valid, test=None), 4), (tastes, 1)):
        tried = train_best(budget(1e-6), pairs).metrics["candidates"]
        tried = [one for one in tried if one["model"] == "popular"]
        half_lives = [one.get("half_life") for one in tried]
        assert half_lives == [None, 31.8, 7.94, 1.98][: len(tried)]
        values = [one["valid ndcg@20"] for one in tried]
        assert all(a < b for a, b in pairwise(values[:-1]))
        assert len(tried) == most or values[-1] <= values[-2]


def test_ease_is_tried_with_more_l2_while_validation_rises(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "EASE_L2", (1.0, 10.0, 100.0, 1e6))
    tried = train_best(budget(600.0), tastes).metrics["candidates"]
    ease = [one for one in tried if one["model"] == "ease"]
    values = [one["valid ndcg@20"] for one in ease]
    assert [one["l2"] for one in ease] == [1.0, 10.0, 100.0, 1e6][: len(ease)]
    assert all(a < b for a, b in pairwise(values[:-1]))
    assert len(ease) == 4 or values[-1] <= values[-2]
    by_itself = train_run(resolve({"model": {"name": "ease", "l2": 1.0}}), tastes)
    assert values[0] == by_itself.metrics["valid"]["ndcg@20"]


def test_ease_may_be_the_best(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1,))
    monkeypatch.setattr(budget_room, "LIGHTGCN_EPOCHS", {64: 10**9})  # no time for lightgcn
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
    tried = alone(train_best(budget(600.0), tastes, notes))
    assert {one["model"] for one in tried} == {"svd", "lightgcn + ssm"}
    assert sum(told.startswith("ease is left out: ") for told in notes.told) == 1


def test_svd_is_tried_where_ease_runs_out_of_memory(tastes, monkeypatch):
    stop_at(monkeypatch, 1, RunError("ease: cannot be solved (memory)"))
    notes = Notes()
    tried = alone(train_best(budget(600.0), tastes, notes))
    assert {one["model"] for one in tried} == {"svd", "lightgcn + ssm"}
    assert "ease: cannot be solved (memory); going on with what was solved before" in notes.told


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
    """Ctrl-C, or an error, at the given call of `train_run` after those of popularity."""
    calls = []

    def broken(config, *args):
        calls.extend([config] if config.model["name"] != "popular" else [])
        if len(calls) == call:
            raise error
        return train_run(config, *args)

    monkeypatch.setattr(budget_room, "train_run", broken)


def test_ctrl_c_keeps_what_was_solved(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2, 4))
    monkeypatch.setattr(budget_room, "EASE_L2", ())
    stop_at(monkeypatch, 2)
    trained = train_best(budget(600.0), tastes)
    assert [one["dim"] for one in alone(trained)] == [1]
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
    assert [one.get("dim") for one in alone(trained)][: call - 1] == [1, 2][: call - 1]
    assert f"{told}; going on with what was solved before" in notes.told


def test_ctrl_c_before_anything_is_solved_gives_nothing(tastes, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(budget_room, "train_run", broken)
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
    monkeypatch.setattr(budget_room, "LIGHTGCN_EPOCHS", {16: 2})
    again = Checkpoint(
        tmp_path, "data", budget(500.0, train={"epochs": 2}).model_dump(mode="json"), True
    )
    assert again.model is not None and again.model["dim"] == 256
    resumed = train_best(config, tastes, None, again)
    svd, lightgcn = alone(resumed)
    assert lightgcn["dim"] == 256
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


def test_the_best_of_each_kind_are_blended(tastes, tmp_path):
    """As `blend` does it from the same models trained by themselves."""
    trained = train_best(budget(600.0), tastes)
    *_, last = trained.metrics["candidates"]
    assert label(trained.config) == last["model"] and last["seconds"] == 0.0
    assert trained.metrics["valid"]["ndcg@20"] > max(x["valid ndcg@20"] for x in alone(trained))
    kinds = {}
    for one in trained.metrics["candidates"][:-1]:
        kind = one["model"].partition(" ")[0]
        if kind not in kinds or one["valid ndcg@20"] > kinds[kind]["valid ndcg@20"]:
            kinds[kind] = one
    parts = trained.config.model["parts"]
    for part in parts:
        model = part["settings"]["model"]
        best = kinds.pop(model["name"])
        assert {key: model[key] for key in ("dim", "l2") if key in best} == {
            key: best[key] for key in ("dim", "l2") if key in best
        }
    runs = [
        train_run(resolve({**part["settings"], "train": {"epochs": 3, "batch_size": 64}}), tastes)
        for part in parts
    ]
    again = blend(runs, tastes, [part["weight"] for part in parts])
    assert again.metrics["valid"] == pytest.approx(trained.metrics["valid"])
    assert again.metrics["test"] == pytest.approx(trained.metrics["test"])
    save_run(tmp_path / "run", trained, "data")
    assert load_run(tmp_path / "run")[0].metrics == trained.metrics


def test_one_model_is_kept_where_no_other_adds_to_it(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "choose_weights", lambda runs, *_: {0: 1.0})
    trained = train_best(budget(600.0), tastes)
    assert not any("&" in one["model"] for one in trained.metrics["candidates"])
    assert trained.config.model["name"] in ("ease", "svd", "lightgcn")


@pytest.mark.parametrize(
    ("error", "stopped"), [(KeyboardInterrupt(), "interrupted"), (MemoryError(), None)]
)
def test_the_best_model_is_kept_where_blending_breaks_off(tastes, monkeypatch, error, stopped):
    def broken(*_):
        raise error

    monkeypatch.setattr(budget_room, "blend", broken)
    trained = train_best(budget(600.0), tastes)
    best = max(trained.metrics["candidates"], key=lambda one: one["valid ndcg@20"])
    assert not any("&" in one["model"] for one in trained.metrics["candidates"])
    assert label(trained.config) == best["model"]
    assert trained.metrics["test"] and (stopped is None or trained.metrics["stopped"] == stopped)


def test_weights_are_chosen_by_some_of_those_who_judged_the_models(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "_JUDGES", 5)
    chosen, notes = [], Notes()

    def choose(runs, split, *_):
        chosen.append(split.valid)
        return {0: 0.5, 1: 0.5}

    monkeypatch.setattr(budget_room, "choose_weights", choose)
    config = budget(600.0, train={"valid_users": 9})
    trained = train_best(config, tastes, notes)
    nine = some_users(tastes.valid, 9, config.seed)
    five = np.flatnonzero(chosen[0].user_degrees)
    assert len(five) == 5 and set(five) <= set(np.flatnonzero(nine.user_degrees))
    assert trained.metrics["counts"]["valid"]["users"] == 9
    assert notes.told[0].startswith("validation looks at 9 of ")


def test_many_users_are_judged_by_some_of_them(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "_JUDGES", 7)
    chosen = []

    def choose(runs, split, *_):
        chosen.append(split.valid)
        return {0: 0.5, 1: 0.5}

    monkeypatch.setattr(budget_room, "choose_weights", choose)
    trained = train_best(budget(600.0), tastes)
    (some,) = chosen
    users = some.user_degrees > 0
    assert users.sum() == 7
    assert (some.user_degrees[users] == tastes.valid.user_degrees[users]).all()
    blended = trained.metrics["candidates"][-1]
    assert "&" in blended["model"]
    counts = trained.metrics["counts"]["valid"]  # measured on all, whichever is the best
    assert counts["users"] == (tastes.valid.user_degrees > 0).sum()
    train_best(budget(600.0), tastes)
    assert np.array_equal(chosen[1].indices, some.indices)


@pytest.mark.parametrize("one", [False, True])
def test_a_refit_learns_from_all_pairs(tastes, monkeypatch, one):
    """What was chosen is what `valid` chooses, and is trained again on train and validation together."""
    if one:
        monkeypatch.setattr(budget_room, "choose_weights", lambda runs, *_: {0: 1.0})
    monkeypatch.setattr(
        budget_room, "LIGHTGCN_EPOCHS", {64: 10**9}
    )  # whose time is not the same twice
    chosen = train_best(budget(600.0), tastes)
    trained = train_best(budget(600.0, train={"protocol": "refit"}), tastes)
    assert label(trained.config) == label(chosen.config)
    assert trained.metrics["valid"] == chosen.metrics["valid"]
    assert trained.metrics["protocol"] == "refit" and trained.config.train.protocol == "refit"
    assert len(trained.train) == len(tastes.train) + len(tastes.valid)
    assert ("parts" in trained.config.model) != one
    assert trained.metrics["selected_on"] == "valid" and trained.metrics["candidates"]
    tried = sum(one["seconds"] for one in trained.metrics["candidates"])
    assert tried < trained.metrics["seconds"]["train"] < 3 * tried  # each is solved twice at most
    config = chosen.config.model_dump(mode="json")
    if one:
        alone = resolve({**config, "train": {**config["train"], "protocol": "refit"}})
        assert trained.metrics["test"] == train_run(alone, tastes).metrics["test"]


def test_ctrl_c_in_the_refit_keeps_what_was_chosen(tastes, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(budget_room._Search, "refit", broken)
    trained = train_best(budget(600.0, train={"protocol": "refit"}), tastes)
    assert trained.metrics["protocol"] == "valid" and trained.metrics["stopped"] == "interrupted"
    assert len(trained.train) == len(tastes.train)


def test_weights_of_pairs_do_not_end_the_search():
    assert budget(5.0, train={"weight_power": 0.5}).train.choose_model


def test_lightgcn_has_the_most_dimensions_of_which_enough_epochs_fit(tastes, monkeypatch):
    """Of 100 seconds to come, where an epoch of d dimensions takes d / 8 of them."""
    monkeypatch.setattr(budget_room, "epoch_seconds", lambda config, _: config.model["dim"] / 8)
    search = budget_room._Search(budget(100.0), tastes, Listener())
    for left, dim in ((200.0, 256), (100.0, 128), (40.0, 64), (10.0, None)):
        search.left = left
        found = search._affordable()
        assert (found and found["dim"]) == dim
