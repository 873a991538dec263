"""Completing the settings of a run: errors, defaults, and warnings on pairs that do not fit."""

from __future__ import annotations

import logging

import pytest

from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.training import resolve
from ssmrec.training.pairs import default_negatives, fitting_similarity, mismatches


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"train": {"batch_sise": 512}},
            r"unknown key train.batch_sise, did you mean 'train.batch_size'",
        ),
        ({"trian": {}}, "unknown key trian, did you mean 'train'"),
        ({"model": {"name": "lightgnc"}}, "unknown model.name 'lightgnc', did you mean 'lightgcn'"),
        ({"loss": {"name": "smm"}}, "unknown loss.name 'smm', did you mean 'ssm'"),
        ({"negatives": {"name": "unifrom"}}, "did you mean 'uniform'"),
        ({"loss": {"name": "ssm", "tau": 1}}, "unknown key loss.tau"),
        ({"negatives": {"n": 5}}, "unknown key negatives.n"),
        ({"model": {"name": 3}}, "model.name: must be a word"),
        ({"train": {"lr": 0}}, "train.lr: must be above 0"),
        ({"train": {"l2": -1}}, "train.l2"),
        ({"train": {"epochs": -1}}, "train.epochs"),
        ({"train": {"patience": 0}}, "train.patience"),
        ({"train": {"protocol": "test"}}, "train.protocol"),
        ({"train": {"metric": "ndgc@20"}}, "ndcg"),
        ({"evaluation": {"metrics": ["recal"]}}, "recall"),
        ({"evaluation": {"ks": [0]}}, "0"),
        ({"seed": -1}, "seed"),
        ({"data": {"split": {"test": 1.5}}}, "data.split.test"),
        ({"loss": {"name": "bpr", "temperature": 0}}, "loss.temperature"),
    ],
)
def test_errors_name_the_key_and_the_remedy(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(values)
    assert "\n" not in str(caught.value)


def test_defaults_are_complete_and_resolving_twice_changes_nothing():
    run = resolve({})
    assert run.model.items() >= {"name": "lightgcn", "dim": 64, "alpha": [0.5, 0.5]}.items()
    ssm = {"name": "ssm", "similarity": "cosine", "prefixes": [], "temperature": 0.2}
    assert run.loss == ssm
    assert run.negatives["name"] == "in_batch"
    assert run.ranking.similarity == "cosine"
    assert resolve(run) == run
    assert resolve(run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("model", "loss", "negatives", "rank"),
    [
        ("lightgcn", {"name": "ssm"}, {"name": "in_batch", "log_q": True}, "cosine"),
        ("svdpp", {"name": "ssm"}, {"name": "in_batch", "log_q": True}, "cosine"),
        (
            "mf",
            {"name": "ssm"},
            {"name": "in_batch", "log_q": True, "exclude_known": True},
            "cosine",
        ),
        (
            "lightgcn",
            {"name": "ssm", "similarity": "dot"},
            {"name": "in_batch", "log_q": True},
            "dot",
        ),
        ("lightgcn", {"name": "bpr"}, {"name": "uniform", "n": 1, "shared": False}, "dot"),
        ("mf", {"name": "bce"}, {"name": "uniform", "n": 4, "shared": False}, "dot"),
        ("lightgcn", {"name": "softmax"}, {"name": "all"}, "cosine"),
    ],
)
def test_auto_takes_the_sampler_and_similarity_that_fit(caplog, model, loss, negatives, rank):
    with caplog.at_level(logging.WARNING, "ssmrec"):
        run = resolve({"model": {"name": model}, "loss": loss})
    assert run.negatives.items() >= negatives.items()
    assert run.ranking.similarity == rank
    assert not caplog.records


def test_settings_go_on_top_of_an_automatic_sampler():
    run = resolve({"negatives": {"exclude_known": False}})
    assert run.negatives == {"name": "in_batch", "exclude_known": False, "log_q": True}
    uncorrected = resolve({"negatives": {"name": "in_batch"}})
    assert uncorrected.negatives == {"name": "in_batch", "exclude_known": False, "log_q": False}
    assert uncorrected.ranking.similarity == "dot"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"negatives": {"name": "in_batch"}, "ranking": {"similarity": "cosine"}},
            "never gives it back: rank by dot",
        ),
        (
            {"negatives": {"name": "in_batch", "log_q": True}, "ranking": {"similarity": "dot"}},
            "adds it again through vector lengths: rank by cosine",
        ),
        ({"model": {"name": "mf"}, "negatives": {"name": "in_batch"}}, "mf has no message passing"),
        (
            {"model": {"name": "mf"}, "negatives": {"name": "popularity"}},
            "mf has no message passing",
        ),
    ],
)
def test_parts_that_work_against_each_other_are_warned_of(caplog, values, message):
    with caplog.at_level(logging.WARNING, "ssmrec"):
        resolve(values)
    assert message in caplog.text


def test_rules_in_one_place():
    corrected = {"name": "in_batch", "exclude_known": True, "log_q": True}
    assert default_negatives(LOSSES["ssm"]) == corrected
    assert default_negatives(LOSSES["softmax"]) == {"name": "all"}
    assert [fitting_similarity("cosine", flag) for flag in (True, False)] == ["cosine", "dot"]
    assert fitting_similarity("dot", True) == "dot"


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (
            {"ranking": {"similarity": "cosine"}, "loss": {"name": "bpr"}},
            "inner products were trained",
        ),
        (
            {"loss": {"name": "ssm", "prefixes": [4]}},
            "the loss never sees the last 60 of 64 numbers of a vector",
        ),
        ({"loss": {"name": "ssm", "prefixes": [4, 64]}}, ""),
        ({"train": {"batch_size": 1}}, "a batch of one pair has no other items"),
        ({"train": {"batch_size": 1}, "negatives": {"name": "uniform"}}, ""),
        ({"loss": {"name": "softmax"}}, ""),
        (
            {"loss": {"name": "softmax"}, "negatives": {"name": "uniform"}},
            "negatives.name=uniform makes loss.name=softmax the sampled one, ssm",
        ),
    ],
)
def test_settings_that_leave_something_untrained_or_unused_are_told(settings, warning):
    found = mismatches(resolve({"model": {"name": "mf"}, **settings}))
    assert bool(found) == bool(warning) and all(warning in text for text in found)
