"""Seeds joined and studies of one setting, by hand."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

from ssmrec.errors import RunError
from ssmrec.reporting.html import report_page
from ssmrec.reporting.runs import RunRecord, read_runs
from ssmrec.reporting.studies import over_seeds, study_charts


def record(value, seed=0, loss="ssm", data="abc", solved=False, **settings):
    settings = {
        "model.name": "mf", "loss.name": loss, "seed": seed, "train.threads": seed + 1, **settings,
    }  # fmt: skip
    metrics = {
        "stopped": "solved" if solved else "epochs",
        "test": None if value is None else {"ndcg@5": value},
    }
    return RunRecord(Path(f"r{seed}"), f"r{seed}", metrics, [], settings, {}, data, None)


def temperatures(loss="ssm", data="abc"):
    """Three temperatures, two seeds of each: means 0.1, 0.3 and 0.2."""
    return [
        record(mean + 0.01 * (2 * seed - 1), seed, loss, data, **{"loss.temperature": t})
        for t, mean in ((0.1, 0.1), (0.2, 0.3), (4.0, 0.2))
        for seed in (0, 1)
    ]


def test_a_study_has_a_point_a_value_and_a_line_a_method():
    runs = [*temperatures(), *temperatures("sl"), record(0.5, **{"loss.temperature": 0.7})]
    (chart,) = study_charts(runs, "ndcg@5")
    assert chart.title == "ndcg@5 against loss.temperature"
    first, second = go.Figure(
        json.loads(re.sub(r'"@\w+"', '"#000"', json.dumps(chart.figure)))
    ).data
    assert (first.name, second.name) == ("mf + ssm", "mf + sl")
    assert list(second.x) == [0.1, 0.2, 4.0]
    assert list(second.y) == pytest.approx([0.1, 0.3, 0.2])
    assert list(second.error_y.array) == pytest.approx([0.02 / 2**0.5] * 3)
    assert list(first.x) == [0.1, 0.2, 0.7, 4.0] and first.error_y.array[2] == 0
    assert (
        "Highest: 0.5000 at 0.7 (mf + ssm)" in chart.caption and "no way to choose" in chart.caption
    )
    assert chart.figure["layout"]["xaxis"]["type"] == "log"


def test_what_is_no_study():
    assert study_charts(temperatures()[:4], "ndcg@5") == []  # two values
    assert study_charts([record(0.1 * seed, seed) for seed in range(4)], "ndcg@5") == []
    solved = [record(0.1, solved=True, **{"loss.temperature": t}) for t in (0.1, 0.2, 0.3)]
    assert study_charts(solved, "ndcg@5") == []
    other = [record(0.1, data=str(t), **{"loss.temperature": t}) for t in (0.1, 0.2, 0.3)]
    assert study_charts(other, "ndcg@5") == []
    untested = [record(None, **{"loss.temperature": t}) for t in (0.1, 0.2, 0.3)]
    assert study_charts(untested, "ndcg@5") == []


def test_lines_of_one_method_are_told_apart_by_what_differs():
    values = [(b, t) for b in (0.0, 0.5, 1.0) for t in (0.1, 0.2)]
    runs = [record(b * t, **{"negatives.beta": b, "loss.temperature": t}) for b, t in values]
    (chart,) = study_charts(runs, "ndcg@5")
    assert [trace["name"] for trace in chart.figure["data"]] == [
        "mf + ssm, temperature=0.1", "mf + ssm, temperature=0.2",
    ]  # fmt: skip
    assert chart.figure["data"][0]["x"] == [0.0, 0.5, 1.0]
    assert "type" not in chart.figure["layout"]["xaxis"]


def test_settings_that_a_later_version_added_do_not_part_runs():
    old = temperatures()
    new = [
        record(0.1, 2, **{"loss.temperature": t, "train.precision": "float32"})
        for t in (0.1, 0.2, 4.0)
    ]
    (chart,) = study_charts([*old, *new], "ndcg@5")
    assert [trace["name"] for trace in chart.figure["data"]] == ["mf + ssm"]
    assert [row.cells[0] for row in over_seeds([*old, *new], ["ndcg@5"]).rows] == [3, 3, 3]


def test_data_sets_are_named():
    runs = [*temperatures(data="a"), *temperatures(data="b")]
    for run in runs:
        run.settings["data.source"] = f"set-{run.fingerprint}"
    (chart,) = study_charts(runs, "ndcg@5")
    assert [trace["name"] for trace in chart.figure["data"]] == [
        "mf + ssm, on set-a", "mf + ssm, on set-b",
    ]  # fmt: skip
    assert "Highest" not in chart.caption  # of figures that do not compare


def test_seeds_are_joined():
    table = over_seeds([*temperatures()[:2], record(0.4, 5, "bpr")], ["ndcg@5"])
    (row,) = table.rows
    assert row.label == "mf + ssm" and row.cells[0] == 2
    assert row.cells[1:] == pytest.approx([0.1, 0.02 / 2**0.5])
    assert over_seeds([record(0.4), record(0.4, 1, "bpr")], ["ndcg@5"]) is None
    assert over_seeds(temperatures(), []) is None  # nothing was measured on test


def test_a_seed_that_was_run_twice_counts_once():
    """A copy of a run in another folder is no further seed: the spread is that of two values."""
    runs = [record(0.1, 0), record(0.1, 0), record(0.4, 1)]
    (row,) = over_seeds(runs, ["ndcg@5"]).rows
    assert row.cells[0] == 2
    assert row.cells[1:] == pytest.approx([0.25, 0.3 / 2**0.5])


def test_seeds_are_joined_though_each_draws_its_own_split():
    """The fingerprint of a random split follows the seed; one seed with two is other data."""
    runs = temperatures()
    drawn = [replace(run, fingerprint=f"split {run.settings['seed']}") for run in runs]
    (chart,) = study_charts(drawn, "ndcg@5")
    assert list(chart.figure["data"][0]["x"]) == [0.1, 0.2, 4.0]
    assert chart.figure["data"][0]["error_y"]["array"] == pytest.approx([0.02 / 2**0.5] * 3)
    table = over_seeds(drawn, ["ndcg@5"])
    assert [row.cells[0] for row in table.rows] == [2, 2, 2]
    assert "also draws what is held out" in table.caption
    assert "also draws" not in over_seeds(runs, ["ndcg@5"]).caption
    changed = [*drawn[:2], replace(drawn[0], fingerprint="other")]
    assert over_seeds(changed, ["ndcg@5"]) is None
    larger = replace(drawn[1], metrics=drawn[1].metrics | {"counts": {"data": {"users": 7}}})
    assert over_seeds([drawn[0], larger], ["ndcg@5"]) is None


def test_a_setting_that_some_runs_leave_open_is_studied_without_them():
    runs = [record(n / 10, **{"train.budget": b}) for n, b in enumerate((None, 5.0, 10, 20.0))]
    (chart,) = study_charts(runs, "ndcg@5")
    assert chart.figure["data"][0]["x"] == [5.0, 10, 20.0]
    assert chart.figure["data"][0]["y"] == [0.1, 0.2, 0.3]


def test_a_comparison_stands_for_its_runs_and_not_for_its_trials(folders, tmp_path):
    place = tmp_path / "compare"
    (place / "runs").mkdir(parents=True)
    (place / "results").mkdir()
    for name, trial in (("a-s0-1", None), ("a-t1-s0-2", {"train.lr": 0.1}), ("gone-s0-3", None)):
        (place / "results" / f"{name}.json").write_text(json.dumps({"trial": trial}))
        if not name.startswith("gone"):
            shutil.copytree(folders["ssm"], place / "runs" / name)
    (tmp_path / "empty").mkdir()
    runs, left = read_runs([place, tmp_path / "empty"])
    assert [run.name for run in runs] == ["a-s0-1"]
    assert left == [
        f"{place}: 1 of 2 runs left out: their folders are gone",
        f"{tmp_path / 'empty'} is left out: it is empty",
    ]


def test_a_comparison_without_any_run_folder_is_told_as_such(tmp_path):
    place = tmp_path / "compare"
    (place / "results").mkdir(parents=True)
    (place / "results/a-t1-s0-2.json").write_text('{"trial": {"train.lr": 0.1}}')
    with pytest.raises(RunError, match="compare: a comparison without a finished run; go on with"):
        read_runs([place])
    (place / "results/a-s0-1.json").write_text('{"trial": null}')
    with pytest.raises(
        RunError, match=r"without its run folders \(.*/runs\): print its .* --no-run"
    ):
        read_runs([place])
    (place / "results/a-s0-1.json").write_text('{"of": "something else"}')
    (place / "results/a-t1-s0-2.json").unlink()
    with pytest.raises(RunError, match="not a run folder"):
        read_runs([place])


def test_the_page_has_the_studies(folders, tmp_path):
    runs, _ = read_runs([folders["ssm"]])
    more = [
        RunRecord(**{**vars(runs[0]), "settings": {**runs[0].settings, "loss.temperature": t}})
        for t in (0.1, 0.5)
    ]
    report_page([*runs, *more], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ndcg@10 against loss.temperature" in text and ">Studies</" in text
