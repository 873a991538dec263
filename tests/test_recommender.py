"""The Python interface as the documentation shows it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ssmrec
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.training import Listener

QUICK = {"epochs": 3, "batch_size": 256, "lr": 0.02, "threads": 1}


def fitted(split, **settings):
    settings = {"model": {"name": "lightgcn", "dim": 8}, "train": QUICK, **settings}
    return ssmrec.Recommender(**settings).fit(split.train, split.valid, progress=False)


@pytest.fixture(scope="module")
def rec(tastes):
    return fitted(tastes)


@pytest.fixture(scope="module")
def text_rec(text_tastes):
    return fitted(text_tastes)


def test_six_lines_on_the_bundled_data():
    data = ssmrec.load("online-retail")
    few = np.isin(data.rows, np.argsort(-data.user_degrees, kind="stable")[:150])
    split = ssmrec.split(data.take(few))
    rec = ssmrec.Recommender({"name": "lightgcn", "dim": 16}, "ssm", train=QUICK)
    rec.fit(split.train, split.valid, progress=False)
    values = rec.evaluate(split.test).values
    assert 0 < values["ndcg@20"] <= 1 and 0 < values["recall@20"] <= 1
    user = split.train.users.decode([split.train.rows[0]])[0]
    frame = rec.recommend([user], k=10)
    assert frame.columns == ["user", "rank", "item", "score"]
    assert frame["user"].to_list() == [user] * 10
    assert frame["rank"].to_list() == list(range(1, 11))
    assert frame["score"].is_sorted(descending=True)
    assert frame["item"].n_unique() == 10


def test_lists_hold_no_seen_item_and_equal_a_plain_ranking(rec, tastes):
    frame = rec.recommend(k=7)
    seen = pl.concat([tastes.train.frame(), tastes.valid.frame()]).select("user", "item")
    assert frame["user"].n_unique() == 60 and len(frame) == 60 * 7
    assert frame.join(seen, on=["user", "item"]).is_empty()
    found = rec.trained_.model.vectors()
    assert rec.config_.ranking.similarity == "cosine"
    unit = [F.normalize(side.detach()) for side in (found.users, found.items)]
    scores = (unit[0] @ unit[1].T).numpy()
    scores[rec.trained_.seen.rows, rec.trained_.seen.indices] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    assert frame["item"].to_list() == [100 + item for item in best.reshape(-1)]


def test_seen_items_on_request(rec):
    lists = rec.recommend([105], k=40, include_seen=True)
    assert sorted(lists["item"]) == list(range(100, 140))
    assert len(rec.recommend([105], k=1000)) < 40  # shorter where fewer are left


def test_evaluate_agrees_with_what_training_measured(rec, tastes):
    """`valid` with the training pairs masked: the same number as in the history."""
    values = [record["ndcg@20"] for record in rec.history_]
    assert rec.metrics_["valid"]["ndcg@20"] == max(values)
    assert rec.metrics_["best_epoch"] == 1 + int(np.argmax(values))
    assert rec.config_.train.protocol == "valid"


def test_a_test_set_loaded_on_its_own_is_matched_by_id(rec, tastes, caplog):
    """Other vocabularies, other order, ids as text, an unknown user: same numbers, one warning."""
    want = rec.evaluate(tastes.test).values
    frame = tastes.test.frame().sample(fraction=1, shuffle=True, seed=1)
    frame = frame.with_columns(pl.col("user", "item").cast(pl.String))
    extra = pl.DataFrame({"user": ["ghost"], "item": ["100"]})
    frame = pl.concat([frame.select("user", "item"), extra])
    users, items = (ssmrec.Vocabulary.of(frame[name]) for name in ("user", "item"))
    test = ssmrec.Interactions.from_pairs(
        users.encode(frame["user"]), items.encode(frame["item"]), users, items
    )
    with caplog.at_level(logging.WARNING, "ssmrec"):
        assert rec.evaluate(test).values == want
    assert f"1 of {len(frame)} pairs have ids the model does not know" in caplog.text


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("model", ["ease", "popular", "mf"])
def test_items_the_model_does_not_know_are_missed_as_in_a_split_that_holds_them(model, text):
    """Some users and items come in the test part only: the same values where no vocabulary has them."""
    draws = np.random.default_rng(0)
    rows = pl.DataFrame({"user": draws.integers(0, 40, 500), "item": draws.integers(0, 30, 500)})
    rows = rows.unique(maintain_order=True)
    if text:
        rows = rows.select(pl.all().cast(pl.String))
    known = (pl.col("item").cast(int) < 25) & (pl.col("user").cast(int) < 33)
    train, test = rows.head(300).filter(known), rows.tail(len(rows) - 300)
    split = ssmrec.prepare(train, test=test, split={"valid": 0})
    want = ssmrec.Recommender(model, train={"epochs": 1}).fit(split.train).evaluate(split.test)
    alone = ssmrec.Recommender(model, train={"epochs": 1}).fit(ssmrec.load(train))
    found = alone.evaluate(ssmrec.load(test))
    unknown = found.counts.pop("unknown_pairs")
    assert unknown == test.filter(~known).height > 0 and found.counts == want.counts
    assert want.counts["cold_items"] > 0 and want.counts["cold_users"] > 0
    if model != "mf":  # its start depends on the number of rows
        assert found.values == pytest.approx(want.values)
    recall = [
        len(set(lists["item"]) & set(own["item"])) / len(set(own["item"]))
        for (user,), own in test.join(train, on=["user", "item"], how="anti").group_by("user")
        if len(lists := alone.recommend([user], 20, unknown="skip"))
    ]
    assert found.values["recall@20"] == pytest.approx(np.mean(recall))


def test_case_24_no_common_id_is_an_error(rec, make_interactions):
    strangers = make_interactions(np.ones((2, 2)), text=True)
    with pytest.raises(DataError, match=r"none of the 4 pairs .* \['u100', .* here, \[100, "):
        rec.evaluate(strangers)


def test_case_26_unknown_users(rec, caplog):
    with pytest.raises(
        DataError, match=r"2 user\(s\) were not trained on: 7, 8; choose unknown=skip"
    ):
        rec.recommend([100, 7, 8])
    with caplog.at_level(logging.WARNING, "ssmrec"):
        frame = rec.recommend([7, 101], k=3, unknown="skip")
    assert frame["user"].unique().to_list() == [101]
    assert "1 user(s) were not trained on: 7; left out" in caplog.text
    frame = rec.recommend([7, 101], k=3, unknown="popular")
    ghost = frame.filter(pl.col("user") == 7)
    degree = rec.trained_.train.item_degrees
    assert ghost["item"].to_list() == [100 + i for i in np.argsort(-degree, kind="stable")[:3]]
    assert ghost["item"][0] == 100 and ghost["score"][0] == 60  # the item everybody has
    assert frame.filter(pl.col("user") == 101).equals(rec.recommend([101], k=3))


def test_only_unknown_users(rec):
    assert rec.recommend([7], unknown="skip").is_empty()
    assert rec.recommend([7, 8], k=2, unknown="popular")["rank"].to_list() == [1, 2, 1, 2]


def test_text_ids(text_rec):
    frame = text_rec.recommend(["u103", "u100"], k=2)
    assert frame["user"].to_list() == ["u103", "u103", "u100", "u100"]
    assert frame["item"].str.starts_with("i").all()
    with pytest.raises(DataError, match="not the single value 'u103'"):
        text_rec.recommend("u103")


def test_mistakes_are_one_line_that_names_the_remedy(rec, tastes, text_tastes):
    frame = tastes.train.frame()
    new = ssmrec.Recommender("mf")
    for call, message in (
        (
            lambda: new.fit(frame),
            "train must be Interactions, not DataFrame: read it with ssmrec.load",
        ),
        (lambda: rec.evaluate(frame), "test must be Interactions"),
        (lambda: new.fit(tastes.train, text_tastes.valid), "have different user or item ids"),
        (lambda: rec.recommend(105), "must be a list of ids, not the single value 105"),
        (lambda: rec.recommend([105], k=2.5), "k must be a whole number"),
        (lambda: rec.recommend([105], unknown="skp"), "did you mean 'skip'"),
        (lambda: new.recommend([105]), "not fitted yet"),
    ):
        with pytest.raises(ssmrec.SsmrecError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_pairs_of_valid_that_are_in_train_are_told(tastes):
    with pytest.raises(DataError, match=r"of the [\d,]+ pairs of valid are in train too") as caught:
        ssmrec.Recommender("mf").fit(tastes.train, tastes.train)
    assert str(caught.value).startswith(f"{len(tastes.train):,} of the")


class CtrlC(Listener):
    """Ctrl-C when an epoch ends, or when a training begins."""

    def __init__(self, epoch):
        self.at = epoch

    def phase(self, name, epochs, device):
        if self.at == 0:
            signal.raise_signal(signal.SIGINT)

    def epoch(self, record, best):
        if record["epoch"] == self.at:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_fit_keeps_the_best_epoch_and_is_raised(tastes):
    for valid, told in (
        (tastes.valid, "kept: the best of 2 epochs"),
        (None, "kept: the model after 2 epochs"),
    ):
        rec = ssmrec.Recommender({"name": "mf", "dim": 4}, train=QUICK)
        with pytest.raises(KeyboardInterrupt, match=told):
            rec.fit(tastes.train, valid, progress=False, listeners=[CtrlC(2)])
        assert repr(rec).endswith("(fitted)") and rec.metrics_["epochs"] == 2
        assert rec.metrics_["stopped"] == "interrupted" and len(rec.recommend(k=2))


def test_ctrl_c_before_an_epoch_is_through_keeps_nothing(tastes):
    rec = ssmrec.Recommender({"name": "mf", "dim": 4}, train=QUICK)
    with pytest.raises(KeyboardInterrupt, match="nothing of this training is kept"):
        rec.fit(tastes.train, tastes.valid, progress=False, listeners=[CtrlC(0)])
    assert not repr(rec).endswith("(fitted)")


@pytest.mark.parametrize("verb", ["update", "blend"])
def test_ctrl_c_in_update_and_blend_is_raised(rec, tastes, monkeypatch, verb):
    def epoch(self, record, best):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Listener, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt, match="nothing of this training is kept"):
        if verb == "update":
            rec.update(tastes.test, progress=False)
        else:
            other = ssmrec.Recommender("ease").fit(tastes.train, tastes.valid, progress=False)
            rec.blend(other, valid=tastes.valid, weights=[1, 1], refit=True, progress=False)


def test_the_caller_keeps_his_settings_of_torch_and_the_numbers_do_not_depend_on_them(rec, tastes):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            again = fitted(tastes)
            more = again.update(tastes.test, epochs=1, progress=False)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64 and torch.get_num_threads() == 2
        lists = again.recommend(k=5)
        new = again.recommend([7], k=2, unknown="popular")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert torch.equal(again.trained_.model.table, rec.trained_.model.table)
    assert more.trained_.model.table.dtype == torch.float32
    assert lists.equals(rec.recommend(k=5)) and len(new) == 2


def test_ids_of_results_have_the_type_of_the_models(rec, text_rec):
    for ids in ([], ["105"], [105.0], pl.Series([105], dtype=pl.Int32)):
        assert rec.recommend(ids, k=1)["user"].dtype == pl.Int64
        assert rec.similar(ids, k=1)["item"].dtype == pl.Int64
    assert rec.recommend(["x", 105], unknown="skip")["user"].unique().to_list() == [105]
    assert rec.recommend(["x", 105], unknown="popular")["user"].unique().sort().to_list() == [
        "105",
        "x",
    ]
    assert text_rec.recommend([])["user"].dtype == pl.String


FORKED = """
import multiprocessing, sys
sys.path.insert(0, sys.argv[1])
from conftest import two_tastes
import ssmrec

split = two_tastes()
rec = ssmrec.Recommender("mf", train={"epochs": 1}).fit(split.train, progress=False)
ranker = rec.ranker()

def work(name):
    try:
        if name == "fit":
            ssmrec.Recommender("mf", train={"epochs": 1}).fit(split.train, progress=False)
        elif name == "ranker":
            ranker.recommend(None, ranker.choice(2))
        else:
            getattr(rec, name)(*([split.test] if name == "evaluate" else []))
    except ssmrec.RunError as error:
        return f"{name}: {error}"

with multiprocessing.get_context("fork").Pool(2) as pool:
    for told in pool.map(work, ["recommend", "evaluate", "fit", "ranker"]):
        print(told)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is that of Linux")
def test_a_forked_worker_tells_that_it_has_no_threads():
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert [line.split(":")[0] for line in told] == ["recommend", "evaluate", "fit", "ranker"]
    assert all("was forked" in line and "get_context('spawn')" in line for line in told)


def test_repr_says_what_it_is(rec):
    assert repr(ssmrec.Recommender("mf", "bpr")) == (
        "Recommender(model='mf', loss='bpr', negatives='auto', seed=0)"
    )
    assert repr(rec).endswith("(fitted)")


def test_save_replaces_a_run_only_when_told_to(rec, text_rec, tmp_path):
    rec.save(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"run: holds a finished run; choose another folder, or over"
    ):
        text_rec.save(tmp_path / "run")
    assert ssmrec.Recommender.load(tmp_path / "run").recommend(k=3).equals(rec.recommend(k=3))
    text_rec.save(tmp_path / "run", overwrite=True)
    assert ssmrec.Recommender.load(tmp_path / "run").recommend(k=3).equals(text_rec.recommend(k=3))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.safetensors").touch()
    with pytest.raises(RunError, match="begun: holds an unfinished training"):
        rec.save(tmp_path / "begun")
    with pytest.raises(RunError, match="the folder to save to is empty"):
        rec.save("")


def test_what_is_no_pairs_no_part_and_no_id_is_told(rec, tastes):
    with pytest.raises(DataError, match="train must be Interactions, not NoneType"):
        ssmrec.Recommender("mf").fit(None)
    with pytest.raises(ConfigError, match=r"loss: must be a name or settings .*got 3"):
        ssmrec.Recommender("mf", 3).fit(tastes.train)  # type: ignore[arg-type]
    for ids in ([True], np.array([True, False]), pl.Series([True])):
        with pytest.raises(DataError, match="users must be ids, numbers or text: True and False"):
            rec.recommend(ids)
    for source in ("", " "):
        with pytest.raises(DataError, match=r"data\.source is empty"):
            ssmrec.prepare(source)
    with pytest.raises(DataError, match=r"data\.test is empty"):
        ssmrec.prepare("online-retail", test="")


@pytest.mark.parametrize("kind", ["rec", "text_rec"])
def test_saved_and_loaded_recommends_the_same(request, tmp_path, kind):
    rec = request.getfixturevalue(kind)
    rec.save(tmp_path / "run")
    again = ssmrec.Recommender.load(tmp_path / "run")
    assert again.recommend(k=9).equals(rec.recommend(k=9))
    assert again.config_ == rec.config_ and again.metrics_ == rec.metrics_
    assert again.history_ == rec.history_


def test_a_loaded_one_can_be_fitted_again(rec, tastes, tmp_path):
    rec.save(tmp_path)
    again = ssmrec.Recommender.load(tmp_path).fit(tastes.train, tastes.valid, progress=False)
    assert torch.equal(again.trained_.model.table, rec.trained_.model.table)


def test_fit_without_validation_runs_all_epochs(tastes):
    rec = ssmrec.Recommender({"name": "mf", "dim": 4}, "bpr", train=QUICK)
    assert rec.fit(tastes.train, progress=False) is rec
    assert rec.config_.train.protocol == "fixed" and len(rec.history_) == 3
    assert rec.metrics_["selected_on"].startswith("nothing")


def test_not_fitted_and_wrong_settings():
    for use in (lambda r: r.recommend([1]), lambda r: r.history_, lambda r: r.save("x")):
        with pytest.raises(RunError, match="not fitted yet: call fit"):
            use(ssmrec.Recommender())


def test_wrong_settings_are_errors_before_training(tastes):
    with pytest.raises(ConfigError, match=r"did you mean 'train.epochs'"):
        ssmrec.Recommender(train={"epoch": 3}).fit(tastes.train)
    with pytest.raises(ConfigError, match=r"unknown model.name 'lightgnc'"):
        ssmrec.Recommender("lightgnc").fit(tastes.train)


# --- own parts: the example of the documentation ---


class HingeLoss(ssmrec.Loss):
    """max(0, margin + l_j - l+), averaged over the negatives that count."""

    class Config(ssmrec.LOSSES["ssm"].Config):
        margin: float = 1.0

    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        gaps = (self.config.margin + neg_logits - pos_logits[:, None]).relu()
        if mask is None:
            return gaps.sum(1) / max(gaps.shape[1], 1)
        return gaps.masked_fill(mask, 0).sum(1) / (~mask).sum(1).clamp_min(1)


class BiasedMF(ssmrec.Backbone):
    """Free vectors, whose last dimension is an item bias: users have a constant 1 there."""

    class Config(ssmrec.MODELS["mf"].Config):
        pass

    def __init__(self, config, train, generator):
        super().__init__(config, train, generator)
        self.users = nn.Parameter(torch.randn(train.n_users, config.dim, generator=generator) / 10)
        self.items = nn.Parameter(torch.randn(train.n_items, config.dim, generator=generator) / 10)
        self.bias = nn.Parameter(torch.zeros(train.n_items, 1))

    def vectors(self, users=None, items=None):
        user = self.users if users is None else self.users[users]
        item = self.items if items is None else self.items[items]
        bias = self.bias if items is None else self.bias[items]
        return ssmrec.models.Vectors(
            torch.cat([user, torch.ones(len(user), 1)], 1), torch.cat([item, bias], 1), user, item
        )


@pytest.fixture
def own_parts(monkeypatch):
    monkeypatch.setitem(ssmrec.LOSSES, "hinge", HingeLoss)
    monkeypatch.setitem(ssmrec.MODELS, "biased_mf", BiasedMF)


def test_own_parts_pass_the_battery():
    from ssmrec.testing import check_backbone, check_loss

    check_loss(HingeLoss, margin=0.5)
    check_backbone(BiasedMF, dim=8)


def test_own_loss_and_own_backbone_train_save_and_load(own_parts, tastes, tmp_path):
    rec = fitted(
        tastes,
        model={"name": "biased_mf", "dim": 8},
        loss={"name": "hinge", "margin": 0.5, "similarity": "dot", "temperature": 1.0},
        negatives={"name": "uniform", "n": 8},
        train={**QUICK, "epochs": 15, "lr": 0.05},
    )
    assert rec.config_.loss["margin"] == 0.5
    assert rec.history_[-1]["loss"] < 0.8 * rec.history_[0]["loss"]
    assert rec.metrics_["valid"]["ndcg@20"] > 0.3
    rec.save(tmp_path)
    assert ssmrec.Recommender.load(tmp_path).recommend(k=5).equals(rec.recommend(k=5))


def test_own_part_settings_are_checked(own_parts, tastes):
    with pytest.raises(ConfigError, match=r"did you mean 'loss.margin'"):
        ssmrec.Recommender("mf", {"name": "hinge", "margn": 2}).fit(tastes.train)
