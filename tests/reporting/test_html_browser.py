"""The pages in a real browser: drawn, silent, offline, readable at both widths, in light and in dark."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from ssmrec.reporting.html import analysis_page, report_page
from ssmrec.reporting.runs import read_runs

pytestmark = pytest.mark.slow

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def pages(folders, results, tmp_path_factory):
    """A report of three runs and an analysis, as files."""
    place = tmp_path_factory.mktemp("pages")
    report_page(read_runs(list(folders.values()))[0], place / "report.html")
    analysis_page(results, place / "analysis.html")
    return place


@contextmanager
def opened(browser, path, **context):
    """The page, drawn; on leaving: nothing was fetched but the file, nothing was complained of."""
    page = browser.new_page(**context)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=20_000)
    yield page
    assert said == []
    assert asked == [path.as_uri()]
    page.close()


def colour(page, selector: str, attribute: str) -> str:
    script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
    return page.evaluate(script, [selector, attribute])


@pytest.mark.parametrize(
    ("name", "charts", "size", "scheme"),
    [
        ("report", 9, PHONE, "dark"),
        ("report", 9, DESK, "light"),
        ("analysis", 22, PHONE, "light"),
        ("analysis", 22, DESK, "dark"),
    ],
    ids=["report-phone-dark", "report-desk-light", "analysis-phone-light", "analysis-desk-dark"],
)
def test_a_page_is_drawn(browser, pages, name, charts, size, scheme):
    path = pages / f"{name}.html"
    with opened(browser, path, viewport=size, color_scheme=scheme) as page:
        assert page.locator(".chart:has(.main-svg)").count() == charts
        assert page.evaluate("document.documentElement.dataset.drawn") == str(charts)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        shapes = page.evaluate(
            """() => [...document.querySelectorAll(".chart")].map(chart => {
                 const svg = chart.querySelector(".main-svg"), plot = chart.querySelector(".nsewdrag");
                 const title = chart.querySelector(".ytitle"), legend = chart.querySelector(".legend");
                 return [svg.clientWidth - chart.clientWidth, plot.getBoundingClientRect().height,
                         title ? 1 : 0, legend ? 1 : 0]; })"""
        )
        for wider, height, title, legend in shapes:
            assert wider <= 0 and height > 120 and title and legend
        ink, paper = colour(page, "body", "color"), colour(page, "body", "backgroundColor")
        assert colour(page, ".ytick text", "fill") == ink != paper
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_hostile_name_is_shown_as_text(browser, pages, folders):
    with opened(browser, pages / "report.html", viewport=DESK) as page:
        assert page.evaluate("window.hacked") is None
        assert page.locator("th .name", has_text=folders["bpr"].name).count() >= 1
        assert page.locator(".legendtext", has_text=folders["bpr"].name).count() >= 1
        assert page.locator("img").count() == 0


def test_a_run_can_be_hidden_in_all_charts(browser, pages):
    with opened(browser, pages / "report.html", viewport=DESK) as page:
        drawn = "() => document.querySelectorAll('.scatterlayer .trace').length"
        before = page.evaluate(drawn)
        page.locator("input[data-run='1']").first.uncheck()
        page.wait_for_function(f"{drawn} < {before}")
        assert page.locator("input[data-run='1']:checked").count() == 0
        page.locator("input[data-run='1']").last.check()
        page.wait_for_function(f"{drawn} === {before}")


def test_columns_can_be_chosen_and_rows_sorted(browser, pages, folders, metrics_of):
    with opened(browser, pages / "report.html", viewport=DESK) as page:
        table = page.locator(".table").first
        shown = table.locator("thead th:visible")
        assert shown.all_inner_texts()[1].split() == ["recall", "@10,", "test"]
        assert shown.count() == 4  # run, recall, ndcg, training
        table.locator("select").first.select_option("all")
        table.locator("select").last.select_option("all")
        assert shown.count() == 10
        head = table.locator("thead th", has_text="ndcg").first
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        column = page.evaluate("document.querySelector('[aria-sort]').cellIndex")
        cells = table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()
        values = [float(cell) for cell in cells if cell != "-"]
        assert values == sorted(values, reverse=True) and len(values) >= 4
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"


def test_charts_follow_the_scheme_and_the_width(browser, pages):
    with opened(browser, pages / "report.html", viewport=DESK, color_scheme="light") as page:
        before = colour(page, ".ytick text", "fill")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "old => getComputedStyle(document.querySelector('.ytick text')).fill !== old",
            arg=before,
        )
        page.set_viewport_size(PHONE)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.chart .main-svg')].every(svg => svg.clientWidth <= 390)"
        )


def test_paper_is_light_and_charts_fit_it(browser, pages):
    with opened(browser, pages / "report.html", viewport=DESK, color_scheme="dark") as page:
        page.evaluate(
            """() => addEventListener("beforeprint", () => {
                 const chart = document.querySelector(".chart");
                 window.seen = [getComputedStyle(chart.querySelector(".ytick text")).fill,
                                chart.querySelector(".main-svg").clientWidth]; })"""
        )
        dark = colour(page, ".ytick text", "fill")
        assert page.pdf(format="A4")[:4] == b"%PDF"
        ink, width = page.evaluate("window.seen")
        assert ink == "rgb(28, 32, 36)" != dark and width < 360
        assert colour(page, ".ytick text", "fill") == dark  # back on the screen
