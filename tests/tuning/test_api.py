"""`ssmrec.tune` from Python."""

from __future__ import annotations

import sys

import pytest

import ssmrec
from ssmrec.errors import ConfigError, DataError

TRAIN = {"epochs": 3, "batch_size": 128, "metric": "ndcg@5", "threads": 1}


def test_the_best_settings_make_a_recommender_with_that_value(tastes, tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed")
    best = ssmrec.tune(
        tastes, {"name": "mf", "dim": 8}, "ssm", trials=4, train=TRAIN, progress=False,
        space={"loss.temperature": "0.05..0.5", "train.lr": [0.01, 0.02]}, out=tmp_path, seed=3,
    )  # fmt: skip
    assert set(best.params) == {"loss.temperature", "train.lr", "train.l2"}
    assert best.value == max(t.value for t in best.trials) and len(best.trials) == 4
    assert best.settings["model"] == {"name": "mf", "dim": 8}
    evaluation = {"metrics": ["ndcg"], "ks": [5]}
    rec = ssmrec.Recommender(**best.settings, evaluation=evaluation)
    rec.fit(tastes.train, tastes.valid, progress=False)
    assert rec.metrics_["valid"]["ndcg@5"] == best.value
    assert rec.config_.seed == 3 and rec.metrics_["best_epoch"] == best.epoch
    assert (tmp_path / "recipe.yaml").exists()


def test_a_model_in_closed_form_on_pairs_that_are_not_split(tastes):
    pytest.importorskip("optuna", reason="optuna is not installed")
    best = ssmrec.tune(tastes.train, "ease", trials=3, progress=False)
    assert (best.epoch, best.metric, list(best.params)) == (0, "ndcg@20", ["model.l2"])
    ssmrec.Recommender(**best.settings).fit(tastes.train, progress=False)


def test_what_is_given_is_fixed(tastes):
    pytest.importorskip("optuna", reason="optuna is not installed")
    with pytest.raises(ConfigError, match=r"loss\.temperature is fixed as well as searched"):
        ssmrec.tune(
            tastes,
            "mf",
            {"name": "ssm", "temperature": 0.1},
            space={"loss.temperature": "0.1..0.2"},
        )
    with pytest.raises(DataError, match="cannot read a list"):
        ssmrec.tune([1, 2])


def test_a_frame_is_split_as_prepare_does(tastes):
    pytest.importorskip("optuna", reason="optuna is not installed")
    frame = tastes.train.frame()
    ways = [frame, ssmrec.prepare(frame)]
    one, other = (ssmrec.tune(data, "ease", trials=2, progress=False).value for data in ways)
    assert one == other


@pytest.mark.parametrize("trials", [1.5, 0, True, "3"])
def test_trials_are_a_whole_number(tastes, trials):
    pytest.importorskip("optuna", reason="optuna is not installed")
    with pytest.raises(ConfigError, match="trials must be a whole number of at least 1, not"):
        ssmrec.tune(tastes, "mf", trials=trials)


def test_without_optuna_the_error_names_the_extra(tastes, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'ssmrec\[tune\]'"):
        ssmrec.tune(tastes)
