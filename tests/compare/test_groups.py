"""Tables by popularity group: of the runs themselves, averaged over seeds, in every form."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from ssmrec.analysis.popularity import popularity_groups
from ssmrec.compare import (
    FORMATS,
    Block,
    Row,
    Store,
    aggregate,
    expand,
    make_plan,
    run_of,
    run_plan,
)
from ssmrec.training import load_run

PLAN = {"data": "online-retail", "models": "mf", "losses": ["ssm", "bpr"], "groups": True}
HEAD = [None, 0.5, *[0.25] * 8]


@pytest.fixture
def made():
    """A plan and its block: one row with groups, one of an earlier version."""
    values = {"recall@20": [0.5], "ndcg@20": [0.25]}
    groups = {"recall": [0.05] * 10, "length": HEAD}
    rows = [Row("mf + ssm", values, groups=groups), Row("mf + bpr", values)]
    return make_plan(PLAN), [Block("online-retail", rows, "mf + ssm")]


def test_groups_of_a_run_add_up_and_lengths_are_those_of_its_vectors(small, tmp_path):
    plan = make_plan({**small, "models": "mf", "losses": "ssm", "groups": True})
    methods, store = expand(plan), Store(tmp_path)
    assert run_plan(plan, methods, tmp_path) == []
    (row,) = aggregate(plan, methods, store)[0].rows
    for name in ("recall", "ndcg"):
        assert sum(row.groups[name]) == pytest.approx(row.mean(f"{name}@5"), rel=1e-6)
    lengths = []
    for seed in plan.seeds:
        trained, _ = load_run(store.folder(run_of(methods[0], seed, {})))
        inside = popularity_groups(trained.train.item_degrees, 10) == 9
        items = trained.model.vectors().items.detach().numpy()
        lengths.append(np.linalg.norm(items[inside], axis=1).mean())
    assert row.groups["length"][9] == pytest.approx(np.mean(lengths), rel=1e-5)


def test_text_and_markdown_show_the_rows_that_have_groups(made):
    lines = FORMATS["text"](*made).splitlines()
    at = lines.index("online-retail: recall@20 that each popularity group adds, tail to head")
    assert lines[at + 1].split() == ["method", *map(str, range(1, 11))]
    assert lines[at + 3].split() == ["mf", "+", "ssm", *["0.0500"] * 10]
    assert "groups: rows that an earlier version measured hold none" in lines
    assert sum("vectors" in line for line in lines) == 1 and not any(
        "ndcg@20 that" in x for x in lines
    )
    markdown = FORMATS["md"](*made)
    assert "| mf + ssm | - | 0.5000 |" + " 0.2500 |" * 8 in markdown


def test_latex_and_csv(made):
    latex = FORMATS["latex"](*made)
    assert latex.count(r"\begin{tabular}{l" + "r" * 10 + "}") == 2
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](*made))))
    found = {row["metric"]: row["mean"] for row in rows if "of group" in row["metric"]}
    assert (
        len(found) == 20
        and found["recall of group 10"] == "0.05"
        and found["length of group 1"] == ""
    )
    assert all(None not in row.values() and None not in row for row in rows)


def test_no_groups_unless_asked_for(made):
    plan = make_plan({**PLAN, "groups": False})
    for form in FORMATS.values():
        assert "group" not in form(plan, made[1])
