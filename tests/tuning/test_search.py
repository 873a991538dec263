"""A search: ordinary trainings that never see test, repeatable, resumable, hard to break."""

from __future__ import annotations

import csv
import re
from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna", reason="optuna is not installed")

from disks import small_files
from ssmrec.config import read_recipe
from ssmrec.data import Split
from ssmrec.errors import ConfigError, RunError
from ssmrec.training import resolve, train_run
from ssmrec.tuning import Watcher, best_of, runner, search
from ssmrec.tuning.record import Done, counts
from ssmrec.tuning.study import Study


def told(found):
    """What must not depend on how a search went, but for its seconds."""
    return [(t.number, t.state, t.params, t.value, t.curve, t.epoch, t.epochs) for t in found]


class Breaking(Watcher):
    """Ctrl-C, or another way to stop, in the second epoch of one trial."""

    def __init__(self, number, stop=KeyboardInterrupt):
        self.number, self.stop, self.now = number, stop, 0

    def begin(self, number, total, params):
        self.now = number

    def epoch(self, record, best):
        if self.now == self.number and record["epoch"] == 2:
            raise self.stop


def test_a_trial_is_an_ordinary_training(small, tastes):
    task = small()
    found = search(task, tastes, 3)
    assert [t.number for t in found] == [1, 2, 3]
    assert found[0].params == {"loss.temperature": 0.2, "train.lr": 0.02, "train.l2": 1e-5}
    for trial in found:
        trained = train_run(task.trial(trial.params), tastes)
        assert trained.metrics["valid"] == {"ndcg@5": trial.value}
        assert trained.metrics["best_epoch"] == trial.epoch
        curve = {r["epoch"]: r["ndcg@5"] for r in trained.history}
        assert curve == trial.curve and max(curve.values()) == trial.value and trial.epochs == 3
    best = max(found, key=lambda t: t.value)
    assert best_of(found) == best


def test_same_seed_same_trials(small, tastes):
    one, two = (search(small(), tastes, 4) for _ in range(2))
    assert told(one) == told(two)
    other = search(small(seed=1), tastes, 4)
    assert other[1].params != one[1].params


def test_the_test_part_is_not_given_to_trials(small, tastes, monkeypatch):
    seen = []

    def spy(config, split, listener):
        seen.append((split.test, config.train.protocol, config.evaluation.names))
        return train_run(config, split, listener)

    monkeypatch.setattr("ssmrec.tuning.runner.train_run", spy)
    blind = Split(tastes.train, tastes.valid, None, tastes.strategy)
    task = small(train={"protocol": "refit"})
    assert told(search(task, tastes, 2)) == told(search(task, blind, 2))
    assert seen == [(None, "valid", ["ndcg@5"])] * 4


def test_a_search_in_parts_is_the_same_search(small, tastes, tmp_path):
    whole = search(small(), tastes, 5)
    assert told(search(small(), tastes, 2, tmp_path)) == told(whole)[:2]
    with pytest.raises(KeyboardInterrupt):
        search(small(), tastes, 5, tmp_path, watcher=Breaking(4))
    with (tmp_path / "trials.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert told(search(small(), tastes, 5, tmp_path)) == told(whole)
    assert told(search(small(), tastes, 3, tmp_path)) == told(whole)  # nothing to do


@pytest.mark.parametrize("number", [1, 3])
def test_a_trial_that_was_running_when_its_process_died_is_drawn_again(
    small, tastes, tmp_path, number
):
    whole, task = search(small(), tastes, 4), small()
    if number > 1:
        search(task, tastes, number - 1, tmp_path)
    fingerprint = Split(tastes.train, tastes.valid, None, "given").fingerprint
    study = Study(task, fingerprint, 0, tmp_path)
    trial, params = study.begin()
    study.report(trial, 1, 0.9)  # and then the process is gone
    assert params == whole[number - 1].params
    assert told(search(task, tastes, 4, tmp_path)) == told(whole)


def test_files(small, tastes, tmp_path):
    task = small(data={"source": "shop"})
    found = search(task, tastes, 3, tmp_path)
    best = best_of(found)
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["ndcg@5"]) for row in rows] == [t.value for t in found]
    assert [float(row["train.lr"]) for row in rows] == [t.params["train.lr"] for t in found]
    values = read_recipe(str(tmp_path / "recipe.yaml"))
    assert values["data"] == {"source": "shop"} and values["loss"]["name"] == "ssm"
    trained = train_run(resolve(values), tastes)
    assert trained.metrics["valid"]["ndcg@5"] == best.value
    assert (
        f"trial {best.number}, the best of 3 trials (3 complete)"
        in (tmp_path / "recipe.yaml").read_text()
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.yaml", "study.db", "trials.csv"]


def test_the_recipe_of_a_fixed_protocol_has_the_best_epoch(small, tastes, tmp_path):
    found = search(small(train={"protocol": "fixed", "epochs": 4}), tastes, 2, tmp_path)
    train = yaml.safe_load((tmp_path / "recipe.yaml").read_text())["train"]
    assert (train["protocol"], train["epochs"]) == ("fixed", best_of(found).epoch)
    assert {t.epochs for t in found} == {4}


def test_another_search_in_the_folder_is_refused(small, tastes, text_tastes, tmp_path):
    search(small(), tastes, 1, tmp_path)
    for task, split, message in (
        (
            small({"train.lr": "1e-3..1e-2:log"}),
            tastes,
            r"space train\.lr was 0\.001\.\.0\.1:log, is 0\.001\.\.0\.01:log",
        ),
        (small(train={"epochs": 4}), tastes, r"train\.epochs was 3, is 4"),
        (small(model={"dim": 9}), tastes, r"model\.dim was 8, is 9"),
        (small(pruner="median"), tastes, "pruner was none, is median"),
        (small(seed=1), tastes, "seed was 0, is 1"),
        (small(), text_tastes, "its data were others than these"),
    ):
        with pytest.raises(
            RunError, match=f"holds another search.*{message}.*choose another --out"
        ):
            search(task, split, 2, tmp_path)
    free = small(train={"threads": None, "protocol": "refit"}, data={"source": "moved"})
    assert len(search(free, tastes, 2, tmp_path)) == 2


def test_a_trial_that_diverges_counts_as_failed(small, tastes):
    task = small({"train.lr": [0.02, 1e30]}, fixed=["train.l2", "loss"])
    found = search(task, tastes, 6)
    states = {t.params["train.lr"]: t.state for t in found}
    assert states == {0.02: "complete", 1e30: "failed"}
    failed = next(t for t in found if t.state == "failed")
    assert "diverged" in failed.reason and failed.value is None
    assert best_of(found).params == {"train.lr": 0.02}
    assert "failed" in counts(found)


def test_settings_drawn_again_are_not_trained_again(small, tastes, tmp_path, monkeypatch):
    """Three trainings of eight trials, of which one diverges; also where the search goes on."""
    task = small({"train.lr": [0.02, 0.05, 1e30]}, fixed=["train.l2", "loss"])
    trainings = []

    def counted(config, *rest):
        trainings.append(config.train.lr)
        return train_run(config, *rest)

    monkeypatch.setattr("ssmrec.tuning.runner.train_run", counted)
    search(task, tastes, 5, tmp_path)
    found = search(task, tastes, 8, tmp_path)
    assert sorted(trainings) == [0.02, 0.05, 1e30]
    assert [t.number for t in found] == list(range(1, 9))
    first = {t.params["train.lr"]: t for t in reversed(found)}
    for trial in found:
        like = first[trial.params["train.lr"]]
        assert trial == like or trial == replace(like, number=trial.number, seconds=0.0)
    assert best_of(found).number == min(t.number for t in found if t.value == best_of(found).value)


def test_no_result_at_all_is_an_error(small, tastes, tmp_path):
    task = small({"train.lr": [1e29, 1e30]}, fixed=["train.l2", "loss"])
    with pytest.raises(
        RunError, match="no trial of 2 gave a result; the last one failed: .*diverged"
    ):
        search(task, tastes, 2, tmp_path)
    assert not (tmp_path / "recipe.yaml").exists() and (tmp_path / "trials.csv").exists()


@pytest.mark.parametrize("error", [MemoryError(), RunError("ease: cannot be solved")])
def test_a_search_whose_first_trial_lacks_memory_is_begun_again(
    small, tastes, tmp_path, monkeypatch, error
):
    def short(*_):
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(runner, "train_run", short)
        search(small(), tastes, 2, tmp_path)
    assert told(search(small(), tastes, 2, tmp_path)) == told(search(small(), tastes, 2))


def test_a_later_trial_that_lacks_memory_has_failed(small, tastes, monkeypatch):
    real, shown = runner.train_run, []

    def short(config, *rest):
        shown.append(config)
        if len(shown) == 2:
            raise MemoryError
        return real(config, *rest)

    monkeypatch.setattr(runner, "train_run", short)
    found = search(small(), tastes, 3)
    assert [t.state for t in found] == ["complete", "failed", "complete"]
    assert found[1].reason == "out of memory"


def test_settings_that_do_not_fit_the_data_end_the_search(small, tastes):
    with pytest.raises(ConfigError, match=r"negatives\.path"):
        search(small(negatives={"name": "given"}), tastes, 2)


@pytest.mark.parametrize(
    ("split", "trials", "message"),
    [
        (lambda s: Split(s.train, None, s.test, "given"), 1, r"set data\.split\.valid=0\.1"),
        (lambda s: s, 0, "trials: must be at least 1"),
    ],
)
def test_what_a_search_needs(small, tastes, split, trials, message):
    with pytest.raises(ConfigError, match=message):
        search(small(), split(tastes), trials)


def test_hopeless_trials_are_given_up(small, tastes):
    """A rate of 1e-6 learns nothing: below the median of those that learn."""
    space = {"train.lr": [1e-6, 0.02], "loss.temperature": "0.1..0.3"}
    found = search(small(space, "median", ["train.l2"], train={"epochs": 10}), tastes, 16)
    pruned = [t for t in found if t.state == "pruned"]
    assert any(t.params["train.lr"] == 1e-6 for t in pruned)
    assert not any(t.state == "complete" and t.params["train.lr"] == 1e-6 for t in found[8:])
    for trial in pruned:
        before = [t for t in found[: trial.number - 1] if t.state == "complete"]
        assert len(before) >= 5 and 2 <= trial.epochs < 10
        assert trial.value is None and trial.reached == max(trial.curve.values())
        others = [t.curve[trial.epochs] for t in before if trial.epochs in t.curve]
        assert trial.reached < np.median(others) and len(others) >= 3
    assert best_of(found).params["train.lr"] == 0.02


def test_the_median_decides(small):
    """Five trials at 0.1 to 0.5, then one at 0.25, below their median 0.3."""
    study = Study(small(pruner="median", train={"epochs": 10}), "data", 0, None)
    for n in range(1, 6):
        trial, params = study.begin()
        assert not any(study.report(trial, epoch, n / 10) for epoch in range(1, 11))
        study.end(trial, Done(n, "complete", params, n / 10, {}, 10, 10))
    trial, _ = study.begin()
    assert [study.report(trial, epoch, 0.25) for epoch in (1, 2)] == [False, True]
    study.lose(trial)
    trial, _ = study.begin()
    assert not any(study.report(trial, epoch, 0.3) for epoch in range(1, 11))


def test_every_pruner_runs(small, tastes):
    found = search(small(pruner="hyperband", train={"epochs": 9}), tastes, 8)
    assert len(found) == 8 and best_of(found)
    with pytest.raises(ConfigError, match="unknown pruner 'medain', did you mean 'median'"):
        small(pruner="medain")


def test_time_over_breaks_a_trial_off(small, tastes, tmp_path, monkeypatch):
    heard = []

    class Clock(Watcher):
        over = False

        def begin(self, number, total, params):
            heard.append(number)

        def epoch(self, record, best):
            Clock.over = heard[-1] == 3 and record["epoch"] == 2

        def out_of_time(self, number):
            heard.append(f"out of time in {number}")

    from ssmrec.tuning.runner import _Work

    with monkeypatch.context() as patch:
        patch.setattr(_Work, "time_left", lambda self: not Clock.over)
        found = search(small(), tastes, 5, tmp_path, 100.0, Clock())
    whole = search(small(), tastes, 5)
    assert heard == [1, 2, 3, "out of time in 3"] and told(found) == told(whole)[:2]
    assert told(search(small(), tastes, 5, tmp_path)) == told(whole)
    with pytest.raises(RunError, match="no trial ended in the time there was"):
        search(small(), tastes, 1, seconds=0.0)


def test_a_closed_form_is_tuned_too(small, tastes, tmp_path):
    task = small({"model.l2": "1..1000:log"}, model={"name": "ease"}, loss={"name": "ssm"})
    found = search(task, tastes, 4, tmp_path)
    assert {(t.epoch, t.epochs, t.state) for t in found} == {(0, 0, "complete")}
    assert found[0].params == {"model.l2": 500.0}
    for trial in found:
        trained = train_run(task.trial(trial.params), tastes)
        assert trained.metrics["valid"]["ndcg@5"] == trial.value
    values = read_recipe(str(tmp_path / "recipe.yaml"))
    assert values["model"] == {
        "name": "ease",
        **({"l2": l2} if (l2 := best_of(found).params["model.l2"]) != 500 else {}),
    }


def test_lists_words_and_whole_numbers_are_settings_like_others(small, tastes, tmp_path):
    space = {
        "model.alpha": "[1, 0], [0.5, 0.5]",
        "model.side": "user,item,both",
        "model.dim": "4..8",
    }
    task = small(space, model={"name": "svdpp"}, fixed=["train.lr", "train.l2", "loss"])
    found = search(task, tastes, 5, tmp_path)
    assert found[0].params == {"model.alpha": [1, 0], "model.side": "user", "model.dim": 8}
    for trial in search(task, tastes, 5, tmp_path):
        assert (
            trial.params["model.alpha"] in ([1, 0], [0.5, 0.5])
            and 4 <= trial.params["model.dim"] <= 8
        )
        assert isinstance(trial.params["model.dim"], int)
        assert task.trial(trial.params).model["alpha"] == [
            float(a) for a in trial.params["model.alpha"]
        ]


def test_a_damaged_memory_is_told_in_one_line(small, tastes, tmp_path):
    (tmp_path / "study.db").write_text("no database at all, but long enough to be looked at" * 40)
    with pytest.raises(
        RunError, match=r"study\.db: cannot be used as the memory of a search"
    ) as told:
        search(small(), tastes, 1, tmp_path)
    assert "\n" not in str(told.value)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file: cannot be written"):
        search(small(), tastes, 1, tmp_path / "file")


def test_a_folder_with_odd_signs(small, tastes, tmp_path):
    folder = tmp_path / "a b?c%20d#é"
    assert len(search(small(), tastes, 1, folder)) == 1
    assert (folder / "study.db").exists()


def test_published_is_refused(small):
    with pytest.raises(
        ConfigError, match=r"tuning chooses on validation, but train\.protocol=published"
    ):
        small(train={"protocol": "published"})


def test_what_diverged_is_drawn_less(small):
    """Rates above 0.01, half of the space, fail: few of them are drawn in the end."""
    space = {"train.lr": "1e-4..1:log"}
    study = Study(small(space, fixed=["train.l2", "loss"]), "data", 0, None)
    for n in range(1, 41):
        trial, params = study.begin()
        if params["train.lr"] > 0.01:
            study.end(trial, Done(n, "failed", params, reason="diverged"))
        else:
            study.end(trial, Done(n, "complete", params, 0.3))
    rates = [trial.params["train.lr"] for trial in study.done()]
    assert sum(rate > 0.01 for rate in rates[:10]) >= 3
    assert sum(rate > 0.01 for rate in rates[-20:]) <= 4


def test_a_trial_that_is_broken_off_thrice_is_drawn_anew(small):
    study = Study(small(), "data", 0, None)
    drawn = []
    for _ in range(4):
        trial, params = study.begin()
        study.lose(trial)
        drawn.append(params)
    assert drawn[0] == drawn[1] == drawn[2] == study.task.start != drawn[3]
    trial, params = study.begin()
    study.end(trial, Done(1, "complete", params, 0.3))
    _, params = study.begin()
    unbroken = Study(small(), "data", 0, None)
    trial, start = unbroken.begin()
    unbroken.end(trial, Done(1, "complete", start, 0.3))
    assert unbroken.begin()[1] == params  # the second trial is the same again


def test_a_trial_whose_process_died_thrice_is_drawn_anew(small, tastes, tmp_path):
    """A study that is opened again finds its trial still running."""
    fingerprint = Split(tastes.train, tastes.valid, None, "given").fingerprint
    drawn = [Study(small(), fingerprint, 0, tmp_path).begin()[1] for _ in range(4)]
    assert drawn[0] == drawn[1] == drawn[2] == small().start != drawn[3]
    assert not small().starts(search(small(), tastes, 1, tmp_path)[0].params)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, runner._OutOfTimeError])
@pytest.mark.parametrize("number", [1, 2])
def test_a_trial_that_was_asked_to_stop_is_always_the_same(small, tastes, tmp_path, number, stop):
    for _ in range(4):
        with suppress(KeyboardInterrupt, RunError):  # with a first trial, out of time is no error
            search(small(), tastes, 2, tmp_path, watcher=Breaking(number, stop))
    found = search(small(), tastes, 2, tmp_path)
    assert told(found) == told(search(small(), tastes, 2)) and small().starts(found[0].params)


def test_where_the_space_lacks_a_setting_no_trial_is_the_start(small, tastes):
    task = small({"train.lr": "0.03..0.1", "loss.temperature": "0.1..0.3"}, fixed=["train.l2"])
    params = search(task, tastes, 1)[0].params
    assert task.start == {"loss.temperature": params["loss.temperature"]}
    assert not task.starts(params)


def test_two_commands_in_one_folder_are_told(small, tmp_path):
    one = Study(small(), "data", 0, tmp_path)
    trial, params = one.begin()
    Study(small(), "data", 0, tmp_path)  # takes the trial for lost
    with pytest.raises(RunError, match=r"study\.db: cannot be used as the memory of a search"):
        one.end(trial, Done(1, "complete", params, 0.3))


class Filling(Watcher):
    """The disk is full from a moment of trial 2 on."""

    def __init__(self, moment, disk):
        self.moment, self.disk, self.now = moment, disk, 0

    def fill(self, moment):
        if self.now == 2 and moment == self.moment:
            self.disk.enter_context(small_files(0))

    def begin(self, number, total, params):
        self.now = number
        self.fill("begin")

    def epoch(self, record, best):
        self.fill("middle" if record["epoch"] < 3 else "last epoch")

    def end(self, trial, best):
        self.now += 1
        self.fill("between")


@pytest.mark.parametrize("moment", ["begin", "middle", "last epoch", "between"])
def test_a_full_disk_ends_a_search_in_one_line_and_it_goes_on(small, tastes, tmp_path, moment):
    whole = search(small(), tastes, 4)
    with pytest.raises(RunError) as caught, ExitStack() as disk:
        search(small(), tastes, 4, tmp_path, watcher=Filling(moment, disk))
    said = str(caught.value)
    assert re.match(
        r".*study\.db: cannot be used as the memory of a search \(disk I/O error\); ", said
    )
    assert said.endswith("make room on the disk, and the same command goes on") and "\n" not in said
    with (tmp_path / "trials.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["1"]
    assert told(search(small(), tastes, 4, tmp_path)) == told(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.yaml", "study.db", "trials.csv"]


@pytest.mark.parametrize("most", [0, 1, 5000, 40_000, 100_000])
def test_a_disk_too_small_for_the_memory_of_a_search(small, tastes, tmp_path, most):
    with small_files(most), pytest.raises(RunError, match="cannot be (written|used)") as caught:
        search(small(), tastes, 2, tmp_path)
    assert "\n" not in str(caught.value)
    assert told(search(small(), tastes, 2, tmp_path)) == told(search(small(), tastes, 2))


def test_files_of_a_search_that_cannot_be_written(small, tastes, tmp_path):
    """Its memory goes on, so the trial is not lost."""
    search(small(), tastes, 1, tmp_path)
    (tmp_path / "trials.csv").unlink()
    (tmp_path / "trials.csv").mkdir()
    with pytest.raises(RunError, match=r"trials\.csv: cannot be written \(.*the same command goes"):
        search(small(), tastes, 2, tmp_path)
    (tmp_path / "trials.csv").rmdir()
    assert told(search(small(), tastes, 2, tmp_path)) == told(search(small(), tastes, 2))
