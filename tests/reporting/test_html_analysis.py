"""The page of one analysis: charts hold the numbers of the dictionary, parts that are missing are left out."""

from __future__ import annotations

import copy
import json
import re
from itertools import pairwise
from math import exp, sqrt

import plotly.graph_objects as go
import pytest

from ssmrec.analysis.run import Effort, Run, analyze
from ssmrec.reporting.bound import bound_section
from ssmrec.reporting.corrections import corrections_section
from ssmrec.reporting.course import course_section
from ssmrec.reporting.hardness import negatives_section
from ssmrec.reporting.html import analysis_page
from ssmrec.reporting.parts import Chart
from ssmrec.reporting.popularity import popularity_section
from ssmrec.reporting.vectors import geometry_section, magnitude_section

SECTIONS = [
    popularity_section, corrections_section, negatives_section, bound_section, course_section,
    magnitude_section, geometry_section,
]  # fmt: skip


def drawn(section) -> dict[str, go.Figure]:
    """Figures by title, checked by plotly itself; symbolic colours become real ones first."""
    found = {}
    for part in section.parts:
        if isinstance(part, Chart):
            assert part.caption.endswith(".") and part.title
            text = re.sub(r'"@\w+"', '"#000000"', json.dumps(part.figure))
            found[part.title] = go.Figure(json.loads(text))
    return found


def table(section, title: str) -> dict[str, list]:
    (found,) = [part for part in section.parts if part.title == title]
    return {row.label: list(row.cells) for row in found.rows}


def test_groups_add_up_to_the_metrics(results, trained):
    charts = drawn(popularity_section(results))
    for metric in ("ndcg", "recall"):
        run, popular, other = charts[f"{metric}@5 by popularity of the items hit"].data
        assert sum(run.y) == pytest.approx(trained["ssm"].metrics["test"][f"{metric}@5"])
        assert sum(other.y) == pytest.approx(trained["bpr"].metrics["test"][f"{metric}@5"])
        assert (run.name, popular.name, other.name) == (
            "lightgcn + ssm",
            "most popular",
            "mf + bpr",
        )
        assert list(run.x) == ["1", "2", "3", "4"]


def test_places_and_shares(results):
    charts = drawn(popularity_section(results))
    for line in charts["Places in the lists"].data:
        assert sum(line.y) == pytest.approx(1, abs=0.05)  # held-out pairs may be on cold items
    spread = table(popularity_section(results), "How the lists are spread over the items")
    assert list(spread) == [
        "lightgcn + ssm",
        "most popular",
        "mf + bpr",
        "training pairs",
        "held-out pairs",
    ]


def test_a_line_for_each_correction_and_a_mark_for_the_run(results):
    section, found = corrections_section(results), results["corrections"]
    *lines, run = drawn(section)["NDCG@5 against the share of the tail"].data
    assert [line.name for line in lines] == ["tten, by dot", "edge, by dot", "dap, by cosine"]
    rows = table(section, "Every correction and strength")
    assert len(rows) == 16
    for line, record in zip(lines, found["lines"], strict=True):
        points = record["points"]
        assert list(line.y) == [point["ndcg"] for point in points]
        assert list(line.x) == [point["tail_share"] for point in points]
        assert [told[0] for told in line.customdata] == [point["asked"] for point in points]
        assert list(line.marker.size) == sorted(set(line.marker.size))
        assert rows[points[-1]["asked"]][0] == points[-1]["ndcg"]
    assert (run.x[0], run.y[0]) == (
        found["uncorrected"]["tail_share"],
        found["uncorrected"]["ndcg"],
    )
    assert len({line.marker.symbol for line in (*lines, run)}) == 4


def test_the_point_named_is_the_farthest_that_keeps_the_accuracy(results):
    def said(*ndcg):
        changed = copy.deepcopy(results)
        own = changed["corrections"]["uncorrected"]
        own |= {"ndcg": 0.1, "tail_share": 0.2}
        points = changed["corrections"]["lines"][0]["points"]
        for at, value in enumerate(ndcg):
            points[at] |= {"ndcg": value, "tail_share": 0.3 + at / 10}
        changed["corrections"]["lines"] = [
            {**changed["corrections"]["lines"][0], "points": points[: len(ndcg)]}
        ]
        return corrections_section(changed).parts[0].caption

    assert "tten:strength=0.25 gives the tail most: 40.0% of the places, 20.0% without" in (
        said(0.1, 0.0951, 0.0949)
    )
    assert "Nothing that keeps 95%" in said(0.09)


def test_the_weight_curve_is_g(results):
    figure = drawn(negatives_section(results))["Similarity of the negatives under the weight curve"]
    curve = figure.data[-1]
    assert figure.layout.xaxis.range[1] > results["negatives"]["curve"]["peak"]
    tau = results["run"]["temperature"]
    values = [sqrt(max(0, 1 - x * x)) * exp(x / tau) for x in curve.x]
    assert curve.yaxis == "y2" and max(curve.y) == pytest.approx(1, abs=0.01)
    top = values.index(max(values))
    assert curve.y[top // 2] / curve.y[top] == pytest.approx(values[top // 2] / values[top])


def test_histograms_share_out_all_negatives(results):
    charts = drawn(negatives_section(results))
    bars = charts["Similarity of the negatives under the weight curve"].data[0]
    assert sum(bars.y) == pytest.approx(1)
    assert sum(bars.width) == pytest.approx(2)  # cosines, -1 to 1
    for line in charts["Where the pull of each loss comes from"].data:
        assert sum(line.y) == pytest.approx(1)


def test_hardest_negatives_of_the_final_model(results):
    figure = drawn(negatives_section(results))["Share of the gradient on the hardest negatives"]
    final = {bar.name: list(bar.y) for bar in figure.data if bar.showlegend is not False}
    last = results["negatives"]["stages"][-1]
    assert final["BPR"] == [last["bpr"][key] for key in ("hardest_1", "hardest_5", "hardest_10")]
    assert final["all alike"] == [0.01, 0.05, 0.1]
    for name, values in final.items():
        assert values == sorted(values), name


def test_the_bound_holds_in_the_chart(results):
    bars = drawn(bound_section(results))["The chain, term by term"].data
    assert [bar.name for bar in bars][0::3] == ["-log DCG", "sampled softmax"]
    for lower, upper in pairwise(bars):
        assert all(a <= b + 1e-9 for a, b in zip(lower.y, upper.y, strict=True))
    rows = table(bound_section(results), "The bound in numbers")
    assert sum(label.startswith("mf + bpr: ") for label in rows) == len(rows) / 2


def test_charts_over_training_show_every_point(results):
    charts, points = drawn(course_section(results)), results["training"]["points"]
    epochs = [point["epoch"] for point in points]
    for pairs in ("sampled candidates", "training pairs", "held-out pairs"):
        bound = charts[f"Bound and metric over epochs, {pairs}"].data
        assert [list(line.x) for line in bound] == [epochs] * 4
        above, _, below, gap = bound
        assert min(gap.y) >= 0
        assert list(gap.y) == pytest.approx([a - b for a, b in zip(above.y, below.y, strict=True)])
    ndcg = charts["Metrics on the held-out pairs over epochs"].data[0]
    assert list(ndcg.y) == [point["ndcg"] for point in points]
    hardest = charts["Share of the gradient on the hardest 5 % of negatives over epochs"].data
    assert hardest[0].name == "sampled softmax" and len(hardest) == 4


def test_norms_and_lemma(results):
    charts = drawn(magnitude_section(results))
    lower, upper, final = charts["Length of the vectors of items"].data[:3]
    bins = results["magnitude"]["nodes"][0]["bins"]
    assert list(final.x) == [each["degree"] for each in bins]
    assert all(a <= b for a, b in zip(lower.y, upper.y, strict=True))
    closed, simulated = charts["The lemma checked by simulation"].data[:2]
    for exact, value, error in zip(closed.y, simulated.y, simulated.error_y.array, strict=True):
        assert abs(exact - value) <= 2.5 * error


def test_spectrum_is_relative_and_falls(results):
    section = geometry_section(results)
    for line in drawn(section)["Singular values of the vectors"].data:
        assert line.y[0] == 1 and list(line.y) == sorted(line.y, reverse=True)
    sphere = table(section, "Alignment and uniformity on the unit sphere")
    align = results["geometry"]["alignment"]
    assert sphere["lightgcn + ssm"][:3] == [align["train"], align["held_out"], align["random"]]


@pytest.mark.parametrize("section", SECTIONS)
def test_without_its_part_a_section_is_empty(section):
    assert section({}).parts == []


def test_two_runs_of_one_label_are_told_apart(results):
    same = copy.deepcopy(results)
    same["against"]["run"]["label"] = same["run"]["label"]
    labels = table(geometry_section(same), "Alignment and uniformity on the unit sphere")
    assert list(labels) == ["lightgcn + ssm", "lightgcn + ssm (bpr)"]


def test_a_model_without_vectors_or_loss_has_a_page(trained, tastes, tmp_path):
    effort = Effort(rows=32, users=5, theory_users=2, pairs=50, nodes=20)
    found = analyze(Run(trained["ease"], tastes.test), groups=3, k=5, effort=effort)
    analysis_page(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Analysis of ease" in text and "solved in closed form" in text
    assert "Hard negatives" not in text and "Share of each group" in text
    assert "Corrections of popularity" not in text


def test_a_dot_product_run_has_no_weight_curve(trained, tastes):
    effort = Effort(rows=32, users=5, theory_users=2, pairs=50, nodes=20)
    found = analyze(Run(trained["bpr"], tastes.test), groups=3, k=5, effort=effort)
    assert "Similarity of the negatives" in drawn(negatives_section(found))


def test_names_and_warnings_are_escaped(results, tmp_path):
    evil = copy.deepcopy(results)
    evil["run"]["label"] = evil["run"]["warning"] = "<script>x</script>"
    evil["notes"] = ["<script>x</script>"]
    analysis_page(evil, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<script>x" not in text and text.count("&lt;script&gt;x&lt;/script&gt;") >= 4
