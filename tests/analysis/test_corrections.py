"""The trade of a correction: by hand, at strength 0, against evaluation, and what does not fit a run."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from ssmrec import Recommender
from ssmrec.analysis import Effort, Run, analyze
from ssmrec.analysis.corrections import corrections_section, trade
from ssmrec.analysis.popularity import gini
from ssmrec.config import merged
from ssmrec.errors import DataError
from ssmrec.ranking.corrections import CORRECTIONS, STRENGTHS
from ssmrec.training import resolve, train_run

SMALL = {
    "model": {"name": "lightgcn", "dim": 8},
    "train": {"protocol": "fixed", "epochs": 3, "batch_size": 128, "lr": 0.05, "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}
FIGURES = ("recall", "ndcg", "mean_popularity", "gini", "coverage", "tail_share")


def made(data, **settings):
    return Run(train_run(resolve(merged(SMALL, settings)), data), data.test)


def section(run):
    subject = run.subject()
    return corrections_section(subject, subject.lists(5), 5)


@pytest.fixture(scope="module")
def runs(tastes):
    """A run ranked by dot, one ranked by cosine."""
    return {
        rank: made(tastes, ranking={"similarity": rank}, loss={"similarity": rank})
        for rank in ("dot", "cosine")
    }


def same(point, other):
    assert [point[key] for key in FIGURES] == pytest.approx([other[key] for key in FIGURES])


def test_trade_by_hand():
    """Items 1 to 3 are the tail of the four that can be listed; user 1 has a list of one item."""
    ids, hits = np.array([[4, 1], [2, -1]]), np.array([[False, True], [True, False]])
    found = trade(ids, hits, np.array([1, 3]), np.array([0, 1, 2, 3, 10]))
    assert found == pytest.approx({
        "recall": (1 + 1 / 3) / 2,
        "ndcg": (1 / log2(3) + 1 / (1 + 1 / log2(3))) / 2,
        "mean_popularity": ((10 + 1) / 2 + 2) / 2,
        "coverage": 3 / 4,
        "tail_share": 2 / 3,
        "gini": gini(np.array([0, 1, 1, 1])),
    })  # fmt: skip
    with pytest.raises(DataError, match="no pair is on an item"):
        trade(np.full((1, 2), -1), np.zeros((1, 2), bool), np.array([1]), np.array([1]))
    with pytest.raises(DataError, match="held-out items of user 1 is 0"):
        trade(ids, hits, np.array([1, 0]), np.ones(5, int))


def test_lines_meet_the_run_where_they_must(runs):
    """tten is dot at 0 and cosine at 1, edge cosine at 0, dap the run at 0; elsewhere figures differ."""
    for rank, ends in (
        ("dot", {"tten": 0, "dap": 0}),
        ("cosine", {"tten": -1, "edge": 0, "dap": 0}),
    ):
        found = section(runs[rank])
        assert [line["name"] for line in found["lines"]] == list(CORRECTIONS)
        for line in found["lines"]:
            assert line["reason"] is None and len(line["points"]) == len(STRENGTHS)
            assert line["points"][0]["strength"] == 0
            assert line["rank"] == (rank if line["name"] == "dap" else "dot")
            if line["name"] in ends:
                same(line["points"][ends[line["name"]]], found["uncorrected"])
            assert len({point["mean_popularity"] for point in line["points"]}) > 1


def test_points_are_what_evaluate_measures(runs, tastes):
    """Names as `--correct` takes them lead to the same figures."""
    found, recommender = section(runs["cosine"]), Recommender.of(runs["cosine"].trained)
    plain = recommender.evaluate(tastes.test).values
    assert found["uncorrected"]["ndcg"] == pytest.approx(plain["ndcg@5"])
    for line in found["lines"]:
        for point in (line["points"][1], line["points"][-1]):
            values = recommender.evaluate(tastes.test, correct=point["asked"]).values
            assert point["ndcg"] == pytest.approx(values["ndcg@5"])
            assert point["recall"] == pytest.approx(values["recall@5"])


def test_dap_goes_up_to_the_usual_length_of_a_vector(runs):
    model = runs["dot"].trained.model
    found = model.vectors()
    lengths = np.concatenate([side.detach().norm(dim=1) for side in (found.users, found.items)])
    strengths = CORRECTIONS["dap"](CORRECTIONS["dap"].Config()).strengths(model)
    assert strengths == pytest.approx([lengths.mean() * each for each in STRENGTHS], rel=0.05)


EFFORT = Effort(rows=50, users=10, theory_users=3, pairs=50, nodes=20)


def test_what_does_not_fit_is_a_note(tastes):
    asked = {
        "mf": merged(SMALL, {"model": {"name": "mf"}}),
        "ease": {"model": {"name": "ease"}, "evaluation": SMALL["evaluation"]},
    }
    by_name = {
        name: analyze(
            Run(train_run(resolve(settings), tastes), tastes.test),
            groups=3, k=5, effort=EFFORT, corrections=True,
        )
        for name, settings in asked.items()
    }  # fmt: skip
    lines = {line["name"]: line for line in by_name["mf"]["corrections"]["lines"]}
    assert lines["dap"]["points"] == [] and len(lines["tten"]["points"]) == 5
    assert (
        "no dap: the correction dap acts on the layers of lightgcn and its kin only"
        in (by_name["mf"]["notes"])
    )
    assert (
        "no tten, edge: an item-item model, or a blend with one, has no item vectors to correct"
        in (by_name["ease"]["notes"])
    )


def test_it_is_off_unless_asked_for_and_says_how_to_get_it(runs):
    found = analyze(runs["dot"], groups=3, k=5, effort=EFFORT)
    assert found["corrections"] is None
    assert any(note.startswith("--corrections shows") for note in found["notes"])
    asked = analyze(runs["dot"], groups=3, k=5, effort=EFFORT, corrections=True)
    assert not any("--corrections" in note for note in asked["notes"])
    rankers = asked["popularity"]["rankers"][0]
    assert asked["corrections"]["uncorrected"] == pytest.approx(
        {"recall": rankers["recall"]["total"], "ndcg": rankers["ndcg"]["total"], **rankers["lists"]}
    )
