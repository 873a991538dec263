"""The schema of a plan, and what it becomes."""

from __future__ import annotations

import pytest
import yaml

from ssmrec.compare import expand, make_plan, read_plan, run_of, trials
from ssmrec.compare.methods import shown
from ssmrec.compare.plan import nested
from ssmrec.errors import ConfigError

LEAST = {"data": "online-retail", "models": "mf", "losses": "ssm"}


def methods(**more):
    return expand(make_plan({**LEAST, **more}))


def config(method, seed=0, tuned=None):
    return run_of(method, seed, tuned or {}).config


def test_names_alone_make_a_plan(tmp_path):
    (tmp_path / "a.yaml").write_text("data: [online-retail]\nmodels: [mf, svdpp]\nlosses: ssm\n")
    plan = read_plan(tmp_path / "a.yaml")
    assert plan == make_plan({**LEAST, "models": ["mf", "svdpp"]})
    assert plan.seeds == (0,) and plan.metric == "ndcg@20"
    assert [m.label for m in expand(plan)] == ["mf + ssm", "svdpp + ssm"]
    assert make_plan({**LEAST, "seeds": 3}).seeds == (0, 1, 2)
    assert make_plan({**LEAST, "seeds": [4, 1]}).seeds == (4, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, "seeds: must be at least 1, or a list of seeds (got 0)"),
        ({"losse": "ssm"}, "unknown key losse, did you mean 'losses'"),
        ({"losses": "smm"}, "online-retail, mf + smm: unknown loss.name 'smm', did you mean 'ssm'"),
        ({"losses": {"name": "ssm", "temperatur": 1}}, "did you mean 'loss.temperature'"),
        ({"losses": {"temperature": 1}}, "losses.0: must be a name, or settings with `name`"),
        ({"models": ["mf", 3]}, "models.1: must be a name"),
        ({"models": {"name": "mf", "label": "a\nb"}}, "models.0.label: must be one line"),
        ({"models": ["mf", "mf"]}, "models: 2 entries are called 'mf': give each a label"),
        ({"models": []}, "models: "),
        ({"models": ["mf", "blend"]}, "online-retail, blend: a blend is made of finished runs"),
        ({"base": {"train": {"epoch": 3}}}, "did you mean 'train.epochs'"),
        ({"study": {"loss.temprature": [1]}}, "did you mean 'loss.temperature'"),
        ({"study": {"model.layers": [1]}}, "mf + ssm, layers=1: unknown key model.layers"),
        ({"tune": {"loss.temperature": [0.1, -1]}}, "loss.temperature: "),
        ({"rules": [{"wen": {}}]}, "unknown key rules.0.wen, did you mean 'rules.0.when'"),
        ({"rules": [{"when": {"modell": "mf"}}]}, "did you mean 'rules.0.when.model'"),
        ({"rules": [{"when": {"model": "mff"}}]}, "rules.0.when.model: no 'mff' among models"),
        ({"rules": [{"when": 3}]}, "rules.0.when: must hold data, model or loss"),
        ({"rules": {"skip": True}}, "everything is skipped"),
        ({"metric": "ndcg@10"}, "metric: 'ndcg@10' is not among metrics, did you mean 'ndcg@20'"),
        ({"metrics": ["ndgc@20"]}, "did you mean 'ndcg@20'"),
        ({"baseline": "mf + bpr"}, "baseline: no method 'mf + bpr' on online-retail"),
        ({"test": "ttest"}, "test: "),
        ({"seeds": 0}, "seeds: "),
        ({"seeds": [1, 1]}, "seeds must be different"),
        (
            {"tune": {"train.lr": [0.1]}, "base": {"train": {"protocol": "published"}}},
            "tune chooses on validation, but train.protocol=published on test",
        ),
        (
            {"tune": {"train.lr": [0.1]}, "base": {"data.split.valid": 0}},
            "tune chooses on validation pairs: set data.split.valid=0.1",
        ),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(values, message):
    with pytest.raises(ConfigError) as caught:
        methods(**values)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).count("(got ") <= 1


def test_later_settings_win_base_entries_rules_study():
    found = methods(
        base={"loss": {"temperature": 0.5}, "train.lr": 0.5, "train": {"l2": 0.5}},
        models=[{"name": "mf", "label": "small", "dim": 4, "set": {"train.lr": 0.1}}, "lightgcn"],
        losses=["ssm", {"name": "ssm", "label": "cold", "temperature": 0.05}],
        rules=[
            {"when": {"model": "small", "loss": ["cold"]}, "set": {"train.l2": 0.25}},
            {"when": {"model": "lightgcn", "loss": "cold"}, "skip": True},
        ],
        study={"model.dim": [16, 32]},
    )
    assert [m.label for m in found] == [
        "small + ssm, dim=16", "small + ssm, dim=32", "small + cold, dim=16", "small + cold, dim=32",
        "lightgcn + ssm, dim=16", "lightgcn + ssm, dim=32",
    ]  # fmt: skip
    one, cold, graph = config(found[0]), config(found[3], seed=7), config(found[4])
    assert (one.model["dim"], cold.model["dim"]) == (16, 32)
    assert (one.loss["temperature"], cold.loss["temperature"]) == (0.5, 0.05)
    assert (one.train.lr, graph.train.lr) == (0.1, 0.5)
    assert (one.train.l2, cold.train.l2) == (0.5, 0.25)
    assert (one.seed, cold.seed) == (0, 7)


def test_a_study_of_two_settings_takes_every_combination():
    grid = {"loss.similarity": ["dot", "cosine"], "ranking.similarity": ["dot", "cosine"]}
    found = methods(study=grid)
    assert [m.label for m in found] == [
        f"mf + ssm, loss.similarity={a}, ranking.similarity={b}"
        for a in ("dot", "cosine")
        for b in ("dot", "cosine")
    ]
    last = config(found[2])
    assert (last.loss["similarity"], last.ranking.similarity) == ("cosine", "dot")


def test_the_nearest_grid_wins_and_its_trials_see_validation_only():
    plan = make_plan(
        {
            **LEAST,
            "base": {"train": {"protocol": "fixed", "epochs": 4}},
            "losses": ["ssm", {"name": "bpr", "tune": {"train.l2": [0.1, 0.2], "train.lr": [1]}}],
            "tune": {"loss.temperature": [0.1, 0.3]},
            "seeds": [5, 6],
            "metrics": ["ndcg@7"],
            "metric": "ndcg@7",
        }
    )
    ssm, bpr = expand(plan)
    assert ssm.grid == ({"loss.temperature": 0.1}, {"loss.temperature": 0.3})
    assert bpr.grid == ({"train.l2": 0.1, "train.lr": 1}, {"train.l2": 0.2, "train.lr": 1})
    jobs = trials(plan, ssm)
    assert [job.config.loss["temperature"] for job in jobs] == [0.1, 0.3]
    assert {job.config.train.protocol for job in jobs} == {"valid"}
    assert {job.config.train.metric for job in jobs} == {"ndcg@7"}
    assert {job.seed for job in jobs} == {5} and jobs[0].config.data.split.valid == 0.1
    run = run_of(ssm, 6, {"loss.temperature": 0.3})
    assert run.config.train.protocol == "fixed" and run.config.train.epochs == 4
    assert run.config.loss["temperature"] == 0.3 and run.seed == 6
    # fixed needs no validation pairs, so train keeps them
    assert run.config.data.split.valid == 0


def test_budgets_must_be_equal_unless_said():
    losses = ["ssm", {"name": "bpr", "tune": {"train.l2": [0.1]}}]
    more = {"losses": losses, "tune": {"loss.temperature": [0.1, 0.3, 0.5]}}
    with pytest.raises(ConfigError, match=r"mf \+ ssm gets 3 trials and mf \+ bpr 1"):
        methods(**more)
    assert [len(m.grid) for m in methods(**more, equal_budgets=False)] == [3, 1]


def test_a_closed_form_has_no_loss_and_no_study_of_one():
    found = methods(
        models=["mf", "ease"], losses=["ssm", "bpr"], study={"loss.temperature": [1, 2]}
    )
    assert [m.label for m in found][-2:] == ["mf + bpr, temperature=2", "ease"]
    assert len(found) == 5


def test_a_closed_form_is_studied_by_its_own_settings_alone():
    study = {"model.l2": [100.0, 200.0], "loss.temperature": [1, 2]}
    assert [m.label for m in methods(models="ease", study=study)] == [
        "ease, l2=100.0",
        "ease, l2=200.0",
    ]


def test_two_methods_of_one_name_are_refused():
    """Their results would be taken for each other's."""
    with pytest.raises(
        ConfigError, match=r"online-retail: 2 methods are called 'mf \+ ssm, temper"
    ):
        methods(study={"loss.temperature": [0.1, 0.1]})
    long = [list(range(60)), list(range(59))]
    assert [label.count(", ") for label in (*shown({"a": long[0]}), *shown({"a": long[1]}))] == [
        59,
        58,
    ]


def test_a_list_of_no_values_is_refused():
    for plan in ({"study": {"train.lr": []}}, {"tune": {"train.lr": []}},
                 {"losses": [{"name": "ssm", "tune": {"train.lr": []}}]},
                 {"rules": [{"tune": {"train.lr": []}}]}):  # fmt: skip
        with pytest.raises(ConfigError, match=r"(study|tune).*must hold more values"):
            methods(**plan)


def test_a_run_is_known_by_what_decides_its_outcome():
    """Labels, threads and measured metrics may change; seed, settings and being a trial may not."""
    base, *_ = methods()
    key = run_of(base, 0, {}).key
    same = methods(
        models={"name": "mf", "label": "other", "dim": 64},
        base={"train.threads": 1, "evaluation.ks": [3]}, metrics=["ndcg@9"], metric="ndcg@9",
    )[0]  # fmt: skip
    assert run_of(same, 0, {}).key == key
    assert run_of(base, 1, {}).key != key
    assert run_of(base, 0, {"train.lr": 0.5}).key != key
    plan = make_plan({**LEAST, "tune": {"train.lr": [0.001]}})
    assert trials(plan, expand(plan)[0])[0].key != key


def test_names_can_be_read():
    (method,) = methods(models={"name": "svdpp", "alpha": [0.5, 0]}, study={"model.side": ["item"]})
    job = run_of(method, 3, {})
    assert job.title == "online-retail: svdpp + ssm, side=item, seed 3"
    assert job.name == f"online-retail-svdpp-ssm-side=item-s3-{job.key}"
    (odd,) = methods(data={"source": "a/b.csv", "label": "my shop/2"})
    assert run_of(odd, 0, {}).name.startswith("my-shop-2-mf-ssm-s0-")
    assert shown({"model.alpha": [0.5, 0]}) == ["alpha=[0.5, 0]"]
    assert shown({"a.n": 1, "b.n": None}) == ["a.n=1", "b.n=null"]


def test_dotted_and_nested_settings_mix():
    text = "train: {lr: 1}\ntrain.l2: 2\nloss.a: {b.c: 3}\n"
    assert nested(yaml.safe_load(text)) == {
        "train": {"lr": 1, "l2": 2},
        "loss": {"a": {"b": {"c": 3}}},
    }


def test_a_plan_that_cannot_be_read_is_not_taken_for_a_recipe(tmp_path):
    with pytest.raises(ConfigError, match="No such file.*; name a YAML file that says what to"):
        read_plan(tmp_path / "none.yaml")


def test_base_settings_that_only_some_have_go_to_those():
    base = {"model": {"dim": 16}, "loss": {"temperature": 0.3}}
    found = methods(models=["mf", "ease"], losses=["ssm", "directau"], base=base)
    dims = {method.label: config(method).model.get("dim") for method in found}
    assert dims == {"mf + ssm": 16, "mf + directau": 16, "ease": None}
    assert config(found[0]).loss["temperature"] == 0.3
    with pytest.raises(ConfigError, match="unknown key model.dmi, did you mean 'model.dim'"):
        methods(models=["mf", "ease"], base={"model.dmi": 16})
    with pytest.raises(ConfigError, match="unknown key model.dim"):
        methods(models="ease", base={"model.dim": 16})
