"""The page of the paper's experiments: published figures belong to plans, and stand beside ours."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ssmrec.compare import Block, Row, expand, read_plan


@pytest.fixture
def experiments(monkeypatch) -> ModuleType:
    """`benchmarks.experiments`; the folder beside `src` is not installed."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])
    from benchmarks import experiments

    return experiments


def test_every_published_figure_belongs_to_a_method_of_its_plan(experiments):
    published = yaml.safe_load((experiments.RESULTS / "published.yaml").read_text())
    assert published.keys() == {"table2", "table3", "table4", "table5"}
    for name, by_data in published.items():
        methods = expand(read_plan(experiments.ROOT / "experiments" / f"{name}.yaml"))
        named = {(data, label) for data, rows in by_data.items() for label in rows}
        assert named == {(method.data, method.label) for method in methods}


def test_ours_stand_beside_the_published_figures_with_the_difference(experiments):
    rows = [
        Row("lightgcn + ssm", {"recall@20": [0.10, 0.12], "ndcg@20": [0.05, 0.05]}),
        Row("lightgcn + bpr", {"recall@20": [], "ndcg@20": []}),
        Row("lightgcn + ccl", {"recall@20": [0.1], "ndcg@20": [0.1]}),
    ]
    figures = {"gowalla": {"lightgcn + ssm": [0.1, 0.0625], "lightgcn + bpr": [0.1, 0.1]}}
    lines = experiments.beside([Block("gowalla", rows, "lightgcn + ssm")], figures).splitlines()
    assert lines[2:] == [
        "| gowalla | lightgcn + ssm | 0.1000 | 0.1100 | +10.0 % | 0.0625 | 0.0500 | -20.0 % |"
    ]
    assert experiments.beside([Block("yelp2018", rows, "lightgcn + ssm")], figures) == ""


def test_a_table_is_put_between_its_marks_and_nowhere_else(experiments):
    page = "before\n<!-- small-table2 -->\nold\n<!-- end -->\nafter <!-- end -->\n"
    made = experiments.refreshed(page)
    assert made.startswith("before\n<!-- small-table2 -->\n\n")
    assert made.endswith("\n<!-- end -->\nafter <!-- end -->\n") and "old" not in made


def test_the_claim_on_the_best_loss_is_what_the_paper_published(experiments):
    """SSM is the best for LightGCN and NGCF everywhere, for SVD++ on two of four data sets."""
    table = yaml.safe_load((experiments.RESULTS / "published.yaml").read_text())["table2"]
    losses = ("bce", "bpr", "sm", "ccl", "ssm")
    wins = {
        model: sum(max(losses, key=lambda x: rows[f"{model} + {x}"][1]) == "ssm" for rows in table.values())
        for model in ("lightgcn", "ngcf", "svdpp")
    }  # fmt: skip
    assert wins == {"lightgcn": 4, "ngcf": 4, "svdpp": 2}
    claim = "SSM is the best of five losses for LightGCN and NGCF (Table 2; for SVD++ on two of four data sets)"
    assert claim in experiments.PAGE.read_text()


def part(data: str, mean: str, p: str) -> str:
    """A data set of a page, with p or without."""
    head, cells, said = (
        ("change | p |", f"-1.0 % | {p} |", "and p") if p else ("change |", "-1.0 % |", "no p")
    )
    return (
        f"### {data}\n\n| method | ndcg@20 | {head}\n|---|{'---:|' * (3 if p else 2)}\n"
        f"| mf | {mean} | {cells}\n\n- seeds: 5\n- change: {said}\n"
    )


def test_p_of_the_page_stays_where_its_figures_are_the_same_and_it_cannot_be_had_again(experiments):
    old = "\n" + part("one", "0.1000", "0.002") + "\n" + part("two", "0.2000", "0.003") + "\n"
    same, other = part("one", "0.1000", ""), part("two", "0.2100", "")
    assert (
        experiments.kept(old, f"{same}\n{other}") == part("one", "0.1000", "0.002") + "\n" + other
    )
    tested = part("one", "0.1000", "0.500")
    assert experiments.kept(old, tested) == tested  # a test of now is the better one
    assert experiments.kept("", same) == same
