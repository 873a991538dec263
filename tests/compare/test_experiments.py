"""The shipped plans: all settings are valid, and they say what the paper did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ssmrec.compare import Plan, expand, make_plan, read_plan, run_of

FOLDER = Path(__file__).parents[2] / "experiments"
RUNS = {
    "table2": 400, "table3": 80, "table4": 80, "table5": 120, "table6": 6,
    "fig1": 20, "fig2": 24, "fig3": 176, "fig4": 48, "fig5": 16,
    "small-table2": 300, "small-table3": 60, "small-table4": 80, "small-table5": 90,
    "small-fig3": 120, "small-fig4": 75, "small-fig5": 60, "small-temperature": 120,
}  # fmt: skip


def settings(name, data, label):
    plan = read_plan(FOLDER / f"{name}.yaml")
    (method,) = (m for m in expand(plan) if (m.data, m.label) == (data, label))
    return run_of(method, 0, {}).config


def test_there_is_a_plan_for_each_table_and_figure_that_is_a_grid():
    plans = {path.stem for path in FOLDER.glob("*.yaml")} - {
        "leaderboard",
        "noise",
        "shift",
        "weights",
    }
    assert plans == RUNS.keys()


@pytest.mark.parametrize("name", RUNS)
def test_plan_is_valid_and_says_what_it_repeats(name):
    plan = read_plan(FOLDER / f"{name}.yaml")
    methods = expand(plan)
    assert len(methods) * len(plan.seeds) == RUNS[name]
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    of = name.removeprefix("small-")
    word = "Table" if of.startswith("table") else "Figure"
    repeated = f"# {word} {of.lstrip('tablefig')} of Wu et al. (TOIS 2024)"
    assert first.startswith(repeated if of in RUNS else "# Temperature of SSM")
    protocols = {run_of(method, 0, {}).config.train.protocol for method in methods}
    assert "published" not in protocols  # test chooses nothing


@pytest.mark.parametrize(
    ("data", "layers", "temperature", "l2"),
    [
        ("gowalla", 1, 0.12, 1e-5),
        ("yelp2018", 1, 0.14, 1e-5),
        ("amazon-book", 3, 0.1, 0.1),
        ("ifashion", 1, 0.22, 1e-3),
    ],
)
def test_lightgcn_with_ssm_is_at_the_authors_settings(data, layers, temperature, l2):
    for name, label in (("table3", "lightgcn + ssm"), ("table4", "lightgcn + Cos-IP"),
                        ("fig1", "lightgcn + ssm")):  # fmt: skip
        config = settings(name, data, label)
        assert config.model["layers"] == layers and config.model["dim"] == 64
        assert config.loss["temperature"] == temperature and config.train.l2 == l2
        assert config.negatives == {"name": "in_batch", "exclude_known": False, "log_q": False}
        assert (config.loss["similarity"], config.ranking.similarity) == ("cosine", "dot")
        assert (config.train.batch_size, config.train.lr) == (2048, 1e-3)


def test_table_2_gives_every_method_the_same_budget():
    methods = expand(read_plan(FOLDER / "table2.yaml"))
    assert {len(method.grid) for method in methods} == {4}
    assert settings("table2", "gowalla", "svdpp + bpr").model["alpha"] == [1.0, 0.0]


def test_the_smaller_data_sets_have_five_seeds_and_equal_trials():
    for name in (name for name in RUNS if name.startswith("small-")):
        plan = read_plan(FOLDER / f"{name}.yaml")
        assert len(plan.seeds) == 5 and len({entry.values["source"] for entry in plan.data}) == 3
    assert {len(m.grid) for m in expand(read_plan(FOLDER / "small-table2.yaml"))} == {3}


def test_table_4_and_5_vary_what_they_say():
    assert settings("table4", "gowalla", "lightgcn + IP-Cos").loss["similarity"] == "dot"
    assert settings("table4", "gowalla", "lightgcn + IP-Cos").ranking.similarity == "cosine"
    model = settings("table5", "ifashion", "item [.5, 0] + ssm").model
    assert (model["side"], model["alpha"]) == ("item", [0.5, 0.0])


def test_figures_3_and_4_vary_the_sampling():
    negatives = settings("fig3", "ifashion", "lightgcn + tau 0.3, beta=0.7").negatives
    assert (negatives["name"], negatives["beta"], negatives["n"]) == ("popularity", 0.7, 2048)
    bpr = settings("fig4", "gowalla", "lightgcn + bpr, n=128").negatives
    assert (bpr["name"], bpr["n"], bpr["shared"]) == ("uniform", 128, False)
    assert settings("fig4", "gowalla", "lightgcn + ssm, n=128").negatives["shared"]


def test_the_plan_in_the_documentation_is_valid():
    page = (FOLDER.parent / "docs" / "compare.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    plan = make_plan(yaml.safe_load(block))
    assert [m.label for m in expand(plan)] == [
        "mf + bpr", "mf + ssm", "lightgcn + bpr", "lightgcn + ssm",
    ]  # fmt: skip
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*)\|", page, re.M)))
    assert set(Plan.model_fields) <= set(keys)
