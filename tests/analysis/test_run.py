"""Every analysis of real small runs: consistent with evaluation, plain JSON, complete for every kind of run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from ssmrec.analysis import Effort, Run, analyze, write_analysis
from ssmrec.analysis import run as run_module
from ssmrec.analysis.files import plain
from ssmrec.analysis.optimum import expected_counts
from ssmrec.analysis.weights import user_pulls
from ssmrec.config import merged
from ssmrec.data import Split, Vocabulary
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.evaluation import find_hits
from ssmrec.negatives import Batch, Negatives
from ssmrec.reporting.analysis_tables import analysis_tables
from ssmrec.training import resolve, train_run
from ssmrec.training.config import make_loss
from ssmrec.training.step import objective

SMALL = {
    "model": {"name": "lightgcn", "dim": 8, "layers": 1},
    "train": {"protocol": "fixed", "epochs": 3, "batch_size": 128, "lr": 0.02, "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}
EFFORT = Effort(rows=100, users=30, theory_users=10, pairs=300, nodes=60)
KINDS = {
    "corrected": {},
    "paper": {"negatives": {"name": "in_batch"}, "ranking": {"similarity": "dot"}},
    "softmax": {"loss": {"name": "softmax"}},
    "own": {"negatives": {"name": "popularity", "n": 150, "shared": False, "log_q": True}},
    "few": {"model": {"name": "mf", "dim": 8}, "loss": {"name": "bpr"}},
    "chosen": {"negatives": {"name": "dns", "n": 2, "pool": 8}},
    "solved": {"model": {"name": "ease"}},
    "filtered": {"model": {"name": "gfcf"}},
    "factors": {"model": {"name": "ials", "dim": 8}},
    "layered": {"model": {"name": "ngcf", "dim": 4, "layers": 1}},
}


@pytest.fixture(scope="module")
def made(tastes):
    """`made(kind)`: the run of one of `KINDS`, and its analysis in five groups."""

    @cache
    def make(kind):
        if kind == "factors":
            pytest.importorskip("implicit")
        settings = KINDS[kind]
        base = {key: value for key, value in SMALL.items() if key != "model" or key not in settings}
        run = Run(train_run(resolve(merged(base, settings)), tastes), tastes.test)
        return run, analyze(run, groups=5, k=5, effort=EFFORT)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_analysed(made, kind):
    run, result = made(kind)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["run"]["label"].startswith(run.trained.config.model["name"])
    solved = kind in ("solved", "filtered", "factors")
    assert (result["negatives"] is None) == solved
    assert (result["geometry"] is None) == (kind in ("solved", "filtered"))
    parts = [] if solved else ["batch", "train", "held_out"]
    assert [part["name"] for part in result["bound"]] == parts
    assert all(part["violations"] == 0 for part in result["bound"])


@pytest.mark.parametrize("kind", KINDS)
def test_groups_add_up_to_what_evaluation_measured(made, kind):
    run, result = made(kind)
    rankers = {ranker["role"]: ranker for ranker in result["popularity"]["rankers"]}
    measured = {"run": run.trained.metrics["test"]}
    measured["most_popular"] = run.trained.metrics["reference"]["most_popular"]
    for role, values in measured.items():
        for metric in ("recall", "ndcg"):
            found = rankers[role][metric]
            assert found["total"] == pytest.approx(values[f"{metric}@5"])
            assert sum(found["by_group"]) == pytest.approx(found["total"])
        assert sum(rankers[role]["list_share"]) == pytest.approx(1)
    groups = result["popularity"]["groups"]
    held_out = sum(g["held_out_share"] for g in groups)
    assert held_out + result["popularity"]["cold_held_out_share"] == pytest.approx(1)
    assert sum(g["train_share"] for g in groups) == pytest.approx(1)
    for each in result["magnitude"]["ranking"]:
        if each["used"]:
            assert each["ndcg"] == pytest.approx(measured["run"]["ndcg@5"])


def test_found_is_the_share_of_a_groups_held_out_pairs(made):
    run, result = made("corrected")
    lists = run.subject().lists(5)
    hits = find_hits(lists.ids, run.held_out, lists.user_index)
    ranker, groups = result["popularity"]["rankers"][0], result["popularity"]["groups"]
    wanted = sum(g["held_out_share"] * f for g, f in zip(groups, ranker["found"], strict=True))
    assert wanted * len(lists.held_out) == pytest.approx(hits.sum())


def test_weights_and_histograms_are_shares(made):
    for kind in ("corrected", "paper", "own", "few"):
        negatives = made(kind)[1]["negatives"]
        shown = [key for key in negatives["histogram"] if key not in ("edges", "false_negatives")]
        assert ("ssm_plain" in shown) == (kind in ("corrected", "own"))
        for key in shown:
            assert sum(negatives["histogram"][key]) == pytest.approx(1), key
        assert [stage["stage"] for stage in negatives["stages"]] == ["start", "final"]
        for stage in negatives["stages"]:
            for loss in ("ssm", "bpr", "bce"):
                assert 1 <= stage[loss]["effective"] <= negatives["candidates"] + 1e-6
        middle = negatives["temperatures"][4]
        assert middle["temperature"] == negatives["temperature"]
        assert middle["ssm"] == negatives["stages"][-1]["ssm"]
        spread = [each["bce"]["effective"] for each in negatives["temperatures"]]
        assert len(spread) == 9


def test_a_run_with_few_negatives_is_shown_over_uniform_ones(made):
    few = made("few")[1]["negatives"]
    assert few["sampler"] == "uniform" and few["own"] is False and few["candidates"] > 500
    assert few["curve"] is None and few["beyond_peak"] is None  # it trained with inner products
    own = made("own")[1]["negatives"]
    assert own["sampler"] == "popularity" and own["own"] is True


def test_drawn_rows_are_what_the_sampler_counts(made):
    run, result = made("corrected")
    subject = run.subject()
    drawn = subject.draw(100, seed=0)
    has = np.zeros((subject.train.n_users, subject.train.n_items), bool)
    has[subject.train.rows, subject.train.indices] = True
    wants = np.zeros_like(has)
    wants[run.held_out.rows, run.held_out.indices] = True
    known = has[drawn.users[:, None], drawn.candidates]
    assert (drawn.live == ~known).all()  # exclude_known; the diagonal is known too
    off = ~np.eye(*drawn.live.shape, dtype=bool)
    wrong = result["negatives"]["false_negatives"]
    assert wrong["known"] == pytest.approx(known[off].mean())
    assert wrong["masked"] == wrong["known"] > 0
    assert wrong["held_out"] == pytest.approx(
        wants[drawn.users[:, None], drawn.candidates][off].mean()
    )
    assert (drawn.items[:, None] == drawn.candidates[:, : len(drawn.items)]).diagonal().all()


@pytest.mark.parametrize("exclude_known", [True, False])
@pytest.mark.parametrize("name", ["all", "mixed"])
def test_a_rows_own_positive_is_no_candidate(tastes, name, exclude_known):
    """Of all items, and of a batch with uniform items beside it, the row's own is left out of all shares."""
    negatives = {"name": name, "exclude_known": exclude_known} | (
        {"n": 50} if name == "mixed" else {}
    )
    run = Run(train_run(resolve(merged(SMALL, {"negatives": negatives})), tastes), tastes.test)
    drawn = run.subject().draw(100, seed=0)
    assert (drawn.own.sum(1) == 1).all() and not (drawn.own & drawn.live).any()
    assert (drawn.candidates[drawn.own] == drawn.items).all()
    wrong = analyze(run, k=5, effort=EFFORT)["negatives"]["false_negatives"]
    assert (wrong["masked"] == wrong["known"] > 0) if exclude_known else wrong["masked"] == 0
    if name == "all":
        degrees = run.trained.train.user_degrees[drawn.users]
        others = run.trained.train.n_items - 1
        assert wrong["known"] == pytest.approx(((degrees - 1) / others).mean())


def test_the_pull_of_one_row_is_its_gradient(made):
    """One row: the histogram of SSM's pull is that of the lengths in Eq 11, candidate by candidate."""
    run, _ = made("paper")
    result = analyze(run, k=5, effort=Effort(rows=1, users=2, theory_users=2))
    subject = run.subject()
    drawn, table = subject.draw(1, seed=0), subject.final
    live = drawn.live[0]
    user, candidates = table.users[drawn.users[0]], table.items[drawn.candidates[0][live]]
    pulls = user_pulls(user, table.items[drawn.items[0]], candidates, subject.temperature)
    cosine = (candidates @ user) / np.linalg.norm(candidates, axis=1) / np.linalg.norm(user)
    lengths = np.linalg.norm(pulls[1:], axis=1)
    found = result["negatives"]["histogram"]
    expected, _ = np.histogram(cosine, found["edges"], weights=lengths / lengths.sum())
    assert found["ssm"] == pytest.approx(expected, abs=1e-9)
    beyond = result["negatives"]["beyond_peak"]
    far = cosine > result["negatives"]["curve"]["peak"]
    assert beyond["negatives"] == pytest.approx(far.mean())
    assert beyond["ssm"] == pytest.approx(lengths[far].sum() / lengths.sum())


def test_messages_are_sums_over_neighbours_and_the_lemma_takes_their_moments(made):
    run, result = made("corrected")
    train, table = run.trained.train, run.subject().final
    has = np.zeros((train.n_users, train.n_items))
    has[train.rows, train.indices] = 1
    d_user, d_item = has.sum(1), has.sum(0)
    sums = (has / np.sqrt(np.maximum(d_user, 1))[:, None]).T @ table.ego_users
    squares = (sums**2).sum(1) / np.maximum(d_item, 1)
    stage = next(s for s in result["magnitude"]["message"] if s["stage"] == "final")
    for each in stage["bins"]:
        inside = (d_item >= each["degree_min"]) & (d_item <= each["degree_max"])
        assert inside.sum() == each["nodes"]
        assert each["measured"] == pytest.approx(squares[inside].mean(), rel=1e-6)
        # E q^2 = mean over pairs of ||p||^2 / D - m^2 + d m^2 with m = mean of p E[D^-1/2], D and p apart.
        p, inverse = table.ego_users[train.rows], 1 / d_user[train.rows]
        m = (p.mean(0) ** 2).sum() * (inverse**0.5).mean() ** 2
        expected = (p**2).sum(1).mean() * inverse.mean() - m + m * d_item[inside]
        assert each["lemma"] == pytest.approx(expected.mean(), rel=1e-6)


def test_softmax_rows_of_a_batch_have_the_loss_that_trained(made):
    """The chain's last term over a batch is the run's own objective, log q aside."""
    run, result = made("paper")
    subject, trained = run.subject(), run.trained
    drawn = subject.draw(128, seed=0)
    batch = Batch(torch.from_numpy(drawn.users), torch.from_numpy(drawn.items))
    with torch.no_grad():
        loss, _ = objective(
            trained.model, make_loss(trained.config), subject.sampler, batch, Negatives(None), 0.0
        )
    full = analyze(run, groups=5, k=5, effort=Effort(rows=128, users=5, theory_users=2))
    assert full["bound"][0]["terms"]["ssm"] == pytest.approx(float(loss), rel=1e-5)
    assert result["bound"][0]["pairs"] == 100


def test_ranks_of_the_bound_are_those_of_the_lists(made):
    """A held-out pair at rank r of the unseen items stands at place r of the list."""
    run, _ = made("corrected")  # trained and ranked by cosine
    subject = run.subject()
    n = subject.train.n_items
    lists = subject.lists(n)
    place = np.log2(1 + 1 + np.argwhere(lists.hits)[:, 1])
    result = analyze(run, k=n, effort=Effort(users=10_000))
    held_out = next(part for part in result["bound"] if part["name"] == "held_out")
    assert held_out["pairs"] == len(place)
    assert held_out["terms"]["neg_log_gain"] == pytest.approx(np.log(place).mean(), rel=1e-4)


def test_the_median_of_an_even_number_of_ranks_may_lie_between_two(made):
    """Two held-out pairs at an even and an odd place."""
    run, _ = made("corrected")
    subject = run.subject()
    lists = subject.lists(subject.train.n_items)
    at, place = np.nonzero(lists.hits)
    odd, even = ((place % 2 == rest).argmax() for rest in (0, 1))  # places are counted from 0
    assert at[odd] != at[even]
    held = run.held_out
    keep = np.zeros(len(held), bool)
    for n in (odd, even):
        user, item = lists.user_index[at[n]], lists.ids[at[n], place[n]]
        keep |= (held.rows == user) & (held.indices == item)
    result = analyze(Run(run.trained, held.take(keep)), k=5, effort=EFFORT)
    found = next(part for part in result["bound"] if part["name"] == "held_out")
    assert found["pairs"] == 2
    assert found["median_rank"] == (place[odd] + place[even]) / 2 + 1
    assert found["median_rank"] % 1 == 0.5


def test_expected_counts_follow_the_sampler(made):
    def counts(kind):
        return expected_counts(made(kind)[0].subject())

    values, reason = counts("paper")
    subject = made("paper")[0].subject()
    assert not reason
    assert values == pytest.approx(127 * subject.train.item_degrees / len(subject.train))
    values, reason = counts("softmax")
    assert not reason and (values == 1).all()
    assert "exclude_known" in counts("corrected")[1]
    assert "bpr" in counts("few")[1] and "not trained with" in counts("solved")[1]


def test_items_that_are_next_to_never_drawn_have_no_best_score(make_interactions):
    """Degrees 12,000, 1 and 1, to the power of 4: the minimum is that of the paper's sampler instead."""
    likes, held = np.zeros((2, 12_000, 3), bool)
    likes[:, 0] = likes[0, 1] = likes[1, 2] = held[0, 2] = True
    train, test = make_interactions(likes), make_interactions(held)
    settings = {
        "model": {"name": "mf", "dim": 2},
        "negatives": {"name": "popularity", "n": 1, "beta": 4, "exclude_known": False},
    }
    config = resolve({**SMALL, **settings})
    run = Run(train_run(config, Split(train, None, test, "given")), test)
    values, reason = expected_counts(run.subject())
    assert "draws some items so rarely" in reason and values.min() > 1e-5
    assert analyze(run, groups=2, k=1, effort=EFFORT)["popularity"]["theory"]["users"] == 2


def test_theory_bins_hold_all_pairs_and_pull_popular_items_down(made):
    theory = made("paper")[1]["popularity"]["theory"]
    assert theory["applies"] and theory["users"] == 10
    assert sum(b["pairs"] for b in theory["bins"]) == theory["pairs"]
    assert -1.1 < theory["slope"]["closed_form"] < -0.5
    assert theory["slope"]["minimised"] == pytest.approx(theory["slope"]["closed_form"], abs=0.3)
    # Uncorrected popularity sampling lowers the popular; with log q they stay where they are.
    corrected = made("corrected")[1]["popularity"]["theory"]["slope"]["run"]
    assert theory["slope"]["run"] < corrected


def test_against_another_run_and_its_faults(made, tastes, tmp_path):
    ours, theirs = made("corrected")[0], made("paper")[0]
    result = analyze(
        ours,
        Run(theirs.trained, theirs.held_out, folder="runs/other"),
        groups=5,
        k=5,
        effort=EFFORT,
    )
    alone = made("paper")[1]
    other = result["popularity"]["rankers"][-1]
    assert other["role"] == "against" and other["label"] == "lightgcn + ssm (other)"
    assert other["ndcg"] == alone["popularity"]["rankers"][0]["ndcg"]
    for part in ("negatives", "bound", "magnitude", "geometry"):
        assert result["against"][part] == alone[part]
    fewer = tastes.test.take(np.arange(len(tastes.test)) > 3)
    with pytest.raises(DataError, match="not judged on the same held-out pairs"):
        analyze(ours, Run(theirs.trained, fewer), effort=EFFORT)
    moved = replace(tastes.test, users=Vocabulary(tastes.test.users.ids + 1))
    with pytest.raises(DataError, match="held-out pairs have other user or item ids than the run"):
        analyze(Run(ours.trained, moved), effort=EFFORT)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        analyze(ours, groups=0, effort=EFFORT)
    with pytest.raises(ConfigError, match="k, the length of the lists, must be at least 1, not 0"):
        analyze(ours, k=0, effort=EFFORT)
    with pytest.raises(DataError, match="held-out Interactions, not Trained and str"):
        analyze(Run(ours.trained, "test"), effort=EFFORT)
    write_analysis(result, str(tmp_path / "new" / "a.json"))
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == result
    with pytest.raises(RunError, match="cannot be written"):
        write_analysis(result, tmp_path / "new" / "a.json" / "b.json")


def test_the_other_run_may_list_items_that_ours_did_not_learn(tastes):
    item = int(np.bincount(tastes.test.indices).argmax())
    away = tastes.train.indices == item
    split = replace(tastes, train=tastes.train.take(~away), valid=tastes.train.take(away))
    protocols = ("valid", "refit")
    runs = [
        Run(train_run(resolve(merged(SMALL, {"train": {"protocol": name}})), split), split.test)
        for name in protocols
    ]
    rankers = analyze(*runs, groups=3, k=5, effort=EFFORT)["popularity"]["rankers"]
    assert [each["outside"] > 0 for each in rankers] == [False, False, True]
    for each in rankers:
        assert sum(each["list_share"]) + each["outside"] == pytest.approx(1)
    assert rankers[2]["recall"]["total"] == pytest.approx(
        analyze(runs[1], groups=3, k=5, effort=EFFORT)["popularity"]["rankers"][0]["recall"][
            "total"
        ]
    )


def test_validation_pairs_are_not_hidden_when_they_are_judged(tastes):
    config = resolve(merged(SMALL, {"train": {"protocol": "valid", "metric": "ndcg@5"}}))
    trained = train_run(config, tastes)
    result = analyze(Run(trained, tastes.valid, "valid"), groups=3, k=5, effort=EFFORT)
    found = result["popularity"]["rankers"][0]["ndcg"]["total"]
    assert found == pytest.approx(trained.metrics["valid"]["ndcg@5"])


def test_broken_vectors_are_named(tastes):
    trained = train_run(resolve(SMALL), tastes)
    with torch.no_grad():
        trained.model.table[3, 2] = float("nan")
    with pytest.raises(RunError, match="not numbers: train it again"):
        analyze(Run(trained, tastes.test), effort=EFFORT)


def test_docstring_names_every_key(made):
    words = set(re.findall(r"[a-z_0-9]+", run_module.__doc__))
    words |= {f"hardest_{q}" for q in (1, 5, 10)}

    def keys(value):
        if isinstance(value, dict):
            for key, each in value.items():
                yield key
                yield from keys(each)
        elif isinstance(value, list):
            for each in value:
                yield from keys(each)

    free = set()  # settings of model, loss and sampler have names of their own
    for kind in ("corrected", "paper", "few", "solved"):
        result = dict(made(kind)[1])
        free |= set(keys(result["run"])) - set(result["run"])
        result["run"] = list(result["run"])
        assert set(keys(result)) - set(vars(EFFORT)) <= words


def test_plain_keeps_numbers_and_drops_what_is_not_finite():
    value = {
        1: np.float32(0.5),
        "a": (np.int64(2), float("nan"), np.array([np.inf, 1.0]), "text", None, True),
    }
    assert plain(value) == {"1": 0.5, "a": [2, None, [None, 1.0], "text", None, True]}


def test_nobody_to_average_over_is_an_error(made):
    run = made("solved")[0]
    for held_out in (run.held_out.take(np.zeros(len(run.held_out), bool)), run.trained.train):
        with pytest.raises(DataError, match="no user to average over"):
            analyze(Run(run.trained, held_out), effort=EFFORT)


def test_users_of_one_item_have_no_theory_and_all_else(tastes):
    """With one training item a user there is nothing to compare within users."""
    degrees = tastes.train.user_degrees
    one = np.zeros(len(tastes.train), bool)
    one[
        (tastes.train.indptr[:-1] + np.arange(len(degrees)) % np.maximum(degrees, 1))[degrees > 0]
    ] = True
    split = replace(tastes, train=tastes.train.take(one), valid=None)
    result = analyze(
        Run(train_run(resolve(SMALL), split), tastes.test), groups=3, k=5, effort=EFFORT
    )
    assert result["popularity"]["theory"] is None and len(result["bound"]) == 3
    assert any("no user has 2 to 1000 training items" in note for note in result["notes"])
    titles = [str(table.renderables[0]) for table in analysis_tables(result)]
    assert len(titles) > 5 and not any("Eq 9" in title for title in titles)


def test_a_run_that_was_trained_on_is_shown_without_a_start(made):
    """Its start was another run's model, which the seed does not make again."""
    run, whole = made("paper")
    warm = {**run.trained.metrics, "warm_start": {"from": "runs/old"}}
    result = analyze(
        replace(run, trained=replace(run.trained, metrics=warm)), groups=5, k=5, effort=EFFORT,
        over_training=True,
    )  # fmt: skip
    assert result["training"] is None
    assert [stage["stage"] for stage in result["negatives"]["stages"]] == ["final"]
    assert {node["vectors"] for node in result["magnitude"]["nodes"]} == {"final", "ego"}
    assert [each["stage"] for each in result["magnitude"]["message"]] == ["final"]
    assert {each["vectors"] for each in result["geometry"]["spectrum"]} == {"final", "ego"}
    assert any("trained on from an earlier one" in note for note in result["notes"])
    assert not any("made again from the seed" in note for note in result["notes"])
    assert result["bound"] == whole["bound"] and len(analysis_tables(result)) > 8


def test_negatives_that_the_loss_never_saw_are_told(tastes):
    run = Run(
        train_run(resolve(merged(SMALL, {"loss": {"name": "directau"}})), tastes), tastes.test
    )
    notes = analyze(run, k=5, effort=EFFORT)["notes"]
    assert (
        sum("directau asks the sampler for nothing: the negatives" in note for note in notes) == 1
    )
