"""Settings that a Python program gives: its own copy of them, and a word where they have no effect."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from ssmrec.recommender import Recommender

EPOCH = {"epochs": 1, "threads": 1}
ALIKE = "every pair counts alike in training (train.weight_power=0), weights are only kept"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "ease"}, []),
        ({"model": "ease", "loss": "ssm", "negatives": "in_batch"}, []),
        (
            {"model": "ease", "train": {"weight_power": 0.5, "threads": 1}},
            ["ease: solved in closed form, so without effect: train.weight_power"],
        ),
        (
            {"model": {"name": "ease"}, "loss": "bpr", "train": {"epochs": 3}},
            ["ease: solved in closed form, so without effect: loss.name, train.epochs"],
        ),
        ({"model": "mf", "train": EPOCH}, []),
        (
            {"model": "mf", "train": {**EPOCH, "patience": 3}},
            ["train.protocol=fixed chooses no epoch, so without effect: train.patience"],
        ),
    ],
)
def test_what_the_caller_set_without_effect_is_told_as_on_the_command_line(
    tastes, caplog, settings, told
):
    rec = Recommender(**settings).fit(tastes.train, progress=False)
    assert caplog.messages == told
    rec.fit(tastes.train, progress=False)
    assert caplog.messages == told


def test_settings_of_a_loaded_run_are_not_the_callers(tastes, caplog, tmp_path):
    Recommender("ease").fit(tastes.train, progress=False).save(tmp_path / "run")
    Recommender.load(tmp_path / "run").fit(tastes.train, progress=False)
    assert not caplog.messages


def test_weights_that_do_not_count_are_told(tastes, caplog):
    weights = np.arange(1, len(tastes.train) + 1, dtype=np.float32)
    train = replace(tastes.train, weights=weights)
    Recommender("ease").fit(train, progress=False)
    Recommender("mf", train=EPOCH).fit(train, progress=False)
    assert caplog.messages == [
        "ease: solved in closed form, so without effect: the weights of train",
        f"{ALIKE}, so without effect: the weights of train",
    ]
    caplog.clear()
    Recommender("mf", train={**EPOCH, "weight_power": 1}).fit(train, progress=False)
    assert not caplog.messages


def test_a_recommender_keeps_the_settings_it_was_made_with():
    train, model = {"lr": 0.1}, {"name": "svdpp", "exponents": [1, 2]}
    one = Recommender(model, train=train)
    train["lr"] = 0.5
    model["exponents"].append(3)
    assert one.train == {"lr": 0.1} and one.model == {"name": "svdpp", "exponents": [1, 2]}
    assert Recommender(train=MappingProxyType(train)).train == {"lr": 0.5}
