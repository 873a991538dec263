"""The picture of a search, from trials made by hand."""

from __future__ import annotations

import pytest

from ssmrec.reporting.parts import Chart, Table, Text
from ssmrec.tuning import Done, counts, search_page
from ssmrec.tuning.picture import picture


def params(temperature, lr, l2):
    return {"loss.temperature": temperature, "train.lr": lr, "train.l2": l2}


TRIALS = [
    Done(1, "complete", params(0.2, 0.02, 1e-5), 0.30, {1: 0.2, 2: 0.3}, 2, 2, 1.0),
    Done(2, "pruned", params(0.4, 0.01, 1e-6), None, {1: 0.1}, 1, 1, 0.5),
    Done(3, "failed", params(0.1, 0.1, 1e-6), reason="<b>diverged</b>"),
    Done(4, "complete", params(0.0501, 0.01, 1e-6), 0.40, {1: 0.4, 2: 0.35}, 1, 2, 2.0),
    Done(5, "complete", params(0.3, 0.03, 1e-5), 0.35, {1: 0.3, 2: 0.35}, 2, 2, 1.5),
]


@pytest.fixture
def page(small):
    return picture(small(), TRIALS)


def charts(page):
    return {p.title: p for s in page.sections for p in s.parts if isinstance(p, Chart)}


def traces(chart):
    return {trace["name"]: trace for trace in chart.figure["data"]}


def test_history(page):
    found = traces(charts(page)["ndcg@5 of each trial"])
    assert found["best so far"]["y"] == [0.3, 0.3, 0.3, 0.4, 0.4]
    assert (found["complete"]["x"], found["complete"]["y"]) == ([1, 4, 5], [0.3, 0.4, 0.35])
    assert (found["given up"]["x"], found["given up"]["y"]) == ([2], [0.1])


def test_each_setting_against_the_metric(page):
    chart = charts(page)["loss.temperature"]
    found = traces(chart)
    assert found["complete"]["x"] == [0.2, 0.0501, 0.3] and found["best"]["x"] == [0.0501]
    assert chart.figure["layout"]["xaxis"]["type"] == "log"
    assert "Searched: 0.05..0.5:log. Best: 0.0501." in chart.caption and "wider" in chart.caption
    rate = charts(page)["train.lr"]
    assert "wider" not in rate.caption
    words = charts(page)["train.l2"].figure
    assert words["layout"]["xaxis"]["categoryarray"] == ["1e-06", "1e-05"]
    assert traces(charts(page)["train.l2"])["complete"]["x"] == ["1e-05", "1e-06", "1e-05"]


def test_learning_curves_have_the_best_on_top(page):
    data = charts(page)["ndcg@5 over epochs"].figure["data"]
    assert [(t["name"], t["y"]) for t in data] == [
        ("trial 5", [0.3, 0.35]), ("trial 1", [0.2, 0.3]), ("trial 2", [0.1]),
        ("trial 4, the best", [0.4, 0.35]),
    ]  # fmt: skip


def test_the_table_and_the_recipe(page):
    (table,) = (p for s in page.sections for p in s.parts if isinstance(p, Table))
    assert [row.cells[0] for row in table.rows] == [0.3, 0.1, None, 0.4, 0.35]
    assert [row.remark for row in table.rows] == ["", "given up early", "<b>diverged</b>", "", ""]
    assert [row.reference for row in table.rows] == [False, True, True, False, False]
    (text,) = (p for s in page.sections for p in s.parts if isinstance(p, Text))
    assert "temperature: 0.0501" in text.body
    assert page.facts[0] == "5 trials (3 complete, 1 given up early, 1 failed), 5 s in all"
    assert counts(TRIALS[:1]) == "1 trial (1 complete)"


def test_the_page_is_one_file_that_works_offline(small, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    search_page(small(), TRIALS, tmp_path / "search.html")
    text = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert "<b>diverged" not in text and "&lt;b&gt;diverged&lt;/b&gt;" in text
    assert "default-src 'none'" in text and "trial 4" in text


def test_a_closed_form_has_no_learning_curves(small):
    task = small({"model.l2": "1..1000:log"}, model={"name": "ease"})
    found = [
        Done(1, "complete", {"model.l2": 500.0}, 0.3),
        Done(2, "complete", {"model.l2": 20.0}, 0.4),
    ]
    assert list(charts(picture(task, found))) == ["ndcg@5 of each trial", "model.l2"]


@pytest.mark.slow
def test_a_browser_draws_it_and_asks_for_nothing(small, tmp_path, browser):
    pytest.importorskip("plotly", reason="plotly is not installed")
    path = tmp_path / "search.html"
    search_page(small(), TRIALS, path)
    page, said, asked = browser.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn='5']", timeout=20_000)
    assert (said, asked) == ([], [path.as_uri()])
    page.close()
