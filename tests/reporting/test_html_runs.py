"""The page of many runs: what is read, what is compared, what is warned of."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import plotly.graph_objects as go
import pytest
import yaml

from ssmrec.errors import RunError
from ssmrec.reporting.charts import learning_curves, quality_against_time
from ssmrec.reporting.html import report_page
from ssmrec.reporting.popularity import groups_of_runs
from ssmrec.reporting.runs import differing, flat, read_runs
from ssmrec.training import load_run


@pytest.fixture(scope="module")
def runs(folders):
    return read_runs(list(folders.values()))[0]


def valid(chart) -> go.Figure:
    """The chart as plotly itself checks it; symbolic colours become real ones first."""
    text = re.sub(r'"@\w+"', '"#000000"', json.dumps(chart.figure))
    return go.Figure(json.loads(text))


def test_records_are_what_the_folders_hold(runs, folders, metrics_of, trained):
    for run, (name, folder) in zip(runs, folders.items(), strict=True):
        assert run.metrics == metrics_of(folder)
        assert run.history == trained[name].history
        assert run.name == folder.name and run.fingerprint == "abc"
    assert [run.parts for run in runs] == ["lightgcn + ssm", "mf + bpr", "ease"]
    assert runs[0].settings["train.protocol"] == "refit"
    assert runs[0].analysis["popularity"]["rankers"][0]["role"] == "run"
    assert runs[1].analysis is None


def test_differing_settings(runs):
    found = differing(runs)
    assert found["model.name"] == ["lightgcn", "mf", "ease"]
    assert found["loss.name"] == ["ssm", "bpr", None]
    assert found["train.protocol"] == ["refit", "published", None]
    assert "seed" not in found and "data.source" not in found
    assert differing([runs[0], runs[0]]) == {}


def test_flat():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_names_are_the_shortest_that_differ(folders, tmp_path):
    for place in ("one/run", "two/run", "two/other"):
        shutil.copytree(folders["ease"], tmp_path / place)
    paths = [
        tmp_path / "one/run",
        tmp_path / "two/run",
        tmp_path / "two/other",
        tmp_path / "one/run",
    ]
    assert [run.name for run in read_runs(paths)[0]] == ["one/run", "two/run", "other"]


def test_what_is_not_finished_is_left_out_and_said(folders, tmp_path, caplog):
    (tmp_path / "going").mkdir()
    (tmp_path / "going/checkpoint.safetensors").touch()
    (tmp_path / "page.html").touch()
    wanted = [folders["ssm"], tmp_path / "going", tmp_path / "page.html"]
    runs, left = read_runs(wanted)
    assert [run.name for run in runs] == ["ssm"]
    assert left == [
        f"{tmp_path / 'going'} is left out: its training is not finished",
        f"{tmp_path / 'page.html'} is left out: it is a file",
    ]
    assert [record.message for record in caplog.records] == left
    with pytest.raises(RunError, match="no finished run to report on: .*going is left out"):
        read_runs(wanted[1:])


def test_what_is_no_run_is_an_error(folders, tmp_path):
    with pytest.raises(RunError, match="nowhere: does not exist"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(RunError, match=r"not a run folder \(no metrics.json\)"):
        (tmp_path / "notes.txt").touch()
        read_runs([tmp_path])
    parent = folders["ssm"].parent
    with pytest.raises(RunError, match=r"no run, but a folder of 3: name them as .*/\*"):
        read_runs([parent])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("metrics.json", "{}"),
        ("config.yaml", "format: 1"),
        ("config.yaml", "a: ["),
        ("history.jsonl", "nonsense"),
        ("analysis.json", "{"),
        ("metrics.json", "[" * 200_000),
        ("analysis.json", "[" * 200_000),
        ("config.yaml", "a: " + "[" * 1000),
        ("config.yaml", "format: .inf"),
        ("history.jsonl", "[" * 200_000),
        ("history.jsonl", '{"epoch": 1, "train_seconds": "x"}'),
        ("history.jsonl", '{"epoch": 1, "train_seconds": 1.0, "ndcg@5": "high"}'),
    ],
)
def test_a_damaged_run_is_an_error_that_names_it(folders, tmp_path, name, text):
    shutil.copytree(folders["ssm"], tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(RunError, match=r"run(/\w+\.json)?: damaged"):
        read_runs([tmp_path / "run"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": {"train": "x", "eval": 1.0}}, "seconds.train: must be a number (got 'x')"),
        ({"seconds": {"eval": 1.0}}, "seconds.train: must be given"),
        ({"seconds": 5}, "seconds: must hold settings as `key: value` (got 5)"),
        ({"stopped": None}, "stopped: must be text (got None)"),
        ({"test": {"ndcg@5": "x"}}, "test: must be a number (got 'x')"),
        ({"test": {"ndcg": 0.5}}, "test: must name metrics as recall@20 (got {'ndcg': 0.5})"),
        ({"test": [1]}, "test: must hold settings as `key: value` (got [1])"),
        ({"best_epoch": True}, "best_epoch: must be a whole number (got True)"),
        ({"counts": {"data": {"users": "x"}}}, "counts: must be a whole number (got 'x')"),
        ({"counts": {"test": {}}}, "counts: must hold more values"),
        ({"unfinished": {"budget": 5}}, "unfinished: must be a list (got 5)"),
        ({"similarity": {"train": "dot", "rank": 1}}, "similarity.rank: must be text (got 1)"),
        ({"update": {"before": "x"}}, "update: must be a list (got 'x')"),
    ],
)
def test_facts_of_other_types_are_told_by_all_who_read_them(folders, tmp_path, change, said):
    shutil.copytree(folders["ssm"], tmp_path / "run")
    path = tmp_path / "run/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for read in (lambda folder: read_runs([folder]), load_run):
        with pytest.raises(RunError, match=r"run.*: damaged or not .*" + re.escape(said)):
            read(tmp_path / "run")


def test_a_later_format_is_refused(folders, tmp_path):
    shutil.copytree(folders["ssm"], tmp_path / "run")
    record = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({**record, "format": 99}))
    with pytest.raises(RunError, match="has format 99"):
        read_runs([tmp_path / "run"])


def test_learning_curves_are_the_history(runs):
    charts = {chart.title: valid(chart) for chart in learning_curves(runs)}
    assert list(charts) == [
        "Training loss over epochs", "Training loss over time",
        "ndcg@5 on validation over epochs", "ndcg@5 on validation over time",
        "ndcg@5 on test over epochs", "ndcg@5 on test over time",
    ]  # fmt: skip
    history = runs[0].history
    chosen = [row for row in history if row["phase"] == "select"]
    again = [row for row in history if row["phase"] == "refit"]
    select, refit, other = charts["Training loss over epochs"].data
    assert list(select.y) == [row["loss"] for row in chosen] and list(select.x) == [1, 2, 3]
    assert list(refit.y) == [row["loss"] for row in again] and refit.name.endswith(" (refit)")
    assert other.name.startswith("&lt;img")
    seconds = [row["train_seconds"] for row in history]
    timed = charts["Training loss over time"].data[1]
    assert timed.x[-1] == pytest.approx(sum(seconds))
    curve, kept = charts["ndcg@5 on validation over epochs"].data
    assert list(curve.y) == [row["ndcg@5"] for row in chosen]
    best = runs[0].metrics["best_epoch"]
    assert (list(kept.x), list(kept.y)) == ([best], [chosen[best - 1]["ndcg@5"]])


def test_quality_against_time(runs):
    points = valid(quality_against_time(runs, "ndcg@10")).data
    assert [point.y[0] for point in points] == [run.metrics["test"]["ndcg@10"] for run in runs]
    assert [point.x[0] for point in points] == [run.metrics["seconds"]["train"] for run in runs]
    assert quality_against_time(runs[:1], "ndcg@10") is None


def test_popularity_groups_of_the_analysed_runs(runs):
    section = groups_of_runs(runs)
    assert section.lead == f"Not analysed yet (ssmrec analyze): {runs[1].name}, ease."
    own, popular = valid(section.parts[0]).data
    assert sum(own.y) == pytest.approx(runs[0].metrics["test"]["ndcg@5"])
    assert sum(popular.y) == pytest.approx(runs[0].metrics["reference"]["most_popular"]["ndcg@5"])
    assert groups_of_runs(runs[1:]).parts == []


def test_runs_on_other_groups_are_not_drawn_together(runs, folders, tmp_path):
    shutil.copytree(folders["ssm"], tmp_path / "other")
    path = tmp_path / "other/analysis.json"
    results = json.loads(path.read_text())
    results["settings"]["k"] = 10
    path.write_text(json.dumps(results))
    both, _ = read_runs([folders["ssm"], tmp_path / "other"])
    titles = [part.title for part in groups_of_runs(both).parts]
    assert [title.split()[0] for title in titles] == ["ndcg@5", "recall@5", "ndcg@10", "recall@10"]


def test_charts_name_the_part_that_was_measured(runs, folders, tmp_path):
    """Of one run analysed on test and on validation, and of runs on two data."""
    shutil.copytree(folders["ssm"], tmp_path / "other")
    path = tmp_path / "other/analysis.json"
    results = json.loads(path.read_text())
    results["settings"]["on"] = "valid"
    path.write_text(json.dumps(results))
    both, _ = read_runs([folders["ssm"], tmp_path / "other"])
    end = " by popularity of the items hit"

    def titles(found):
        return [part.title.removesuffix(end) for part in groups_of_runs(found).parts]

    assert titles(both) == ["ndcg@5", "recall@5", "ndcg@5 on validation", "recall@5 on validation"]
    apart = [both[0], replace(both[1], fingerprint="b")]
    assert titles(apart)[::2] == [
        f"ndcg@5 on {part} of {both[0].source}" for part in ("test", "validation")
    ]


def test_the_page_warns_of_what_does_not_compare(folders, runs, tmp_path):
    report_page(runs, tmp_path / "page.html", ["x is left out: y"])
    text = (tmp_path / "page.html").read_text()
    assert "epoch chosen on TEST: comparable with papers" in text
    assert "x is left out: y" in text and "different data" not in text
    shutil.copytree(folders["ease"], tmp_path / "run")
    record = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({**record, "data_fingerprint": "b"}))
    report_page(read_runs([folders["ease"], tmp_path / "run"])[0], tmp_path / "page.html")
    assert "trained on different data" in (tmp_path / "page.html").read_text()


def test_no_run_is_called_the_highest_of_those_on_other_data(folders):
    (run,), _ = read_runs([folders["ssm"]])
    for fingerprint, highest in ((run.fingerprint, True), ("other", False)):
        pair = [run, replace(run, name="second", fingerprint=fingerprint)]
        for charts in ([quality_against_time(pair, "ndcg@10")], learning_curves(pair)):
            assert any("highest" in chart.caption.lower() for chart in charts) == highest


@pytest.mark.parametrize("stopped", ["interrupted", "diverged"])
def test_a_training_that_was_not_finished_is_marked(folders, tmp_path, stopped):
    (run,), _ = read_runs([folders["ssm"]])
    run = replace(run, metrics=run.metrics | {"stopped": stopped})
    assert _page_of([run], tmp_path).count(f"<span class=remark>{stopped}</span>") == 2


def test_a_blend_of_what_was_not_finished_is_marked(folders, tmp_path):
    (run,), _ = read_runs([folders["ssm"]])
    own = {"stopped": "blended", "unfinished": {"interrupted": ["mf + ssm"]}}
    page = _page_of([replace(run, metrics=run.metrics | own)], tmp_path)
    assert page.count("<span class=remark>interrupted: mf + ssm</span>") == 2


def test_seeds_that_draw_their_own_split_are_no_other_data(folders, tmp_path):
    (run,), _ = read_runs([folders["ease"]])
    other = replace(run, settings=run.settings | {"seed": 1}, fingerprint="b")
    report_page([run, other], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Each seed drew its own split of the data" in text and "different data" not in text
    assert "the highest of the runs is bold" not in text and "<b>" not in text
    assert text.count(f"<li>{run.source}: ") == 1
    assert "over seeds" not in _page_of([run], tmp_path)
    other = replace(other, settings=other.settings | {"data.split.valid": 0.3})
    assert "trained on different data" in _page_of([run, other], tmp_path)


def _page_of(runs, tmp_path):
    report_page(runs, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_run_with_nan_is_shown(folders, tmp_path):
    shutil.copytree(folders["ease"], tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    metrics["test"]["ndcg@10"] = float("nan")
    (tmp_path / "run/metrics.json").write_text(json.dumps(metrics))
    runs, _ = read_runs([folders["ease"], tmp_path / "run"])
    report_page(runs, tmp_path / "page.html")
    assert ">nan</td>" in (tmp_path / "page.html").read_text()


def test_a_run_without_test_pairs_is_shown(folders, tmp_path):
    shutil.copytree(
        folders["ssm"], tmp_path / "run", ignore=shutil.ignore_patterns("analysis.json")
    )
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    metrics |= {"test": None, "reference": None, "counts": {**metrics["counts"], "test": None}}
    (tmp_path / "run/metrics.json").write_text(json.dumps(metrics))
    report_page(read_runs([tmp_path / "run"])[0], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert f">{metrics['valid']['ndcg@10']:.4f}</td>" in text
    assert "most popular" not in text and "against training time" not in text
