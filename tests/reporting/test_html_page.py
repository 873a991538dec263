"""The shell of a page: what is escaped, what is inlined, what happens when it cannot be made."""

from __future__ import annotations

import json
import re
import sys

import pytest

from ssmrec.errors import RunError, SsmrecError
from ssmrec.reporting.markup import number
from ssmrec.reporting.page import clean, render, write_page
from ssmrec.reporting.parts import (
    Chart,
    Column,
    Page,
    Row,
    Section,
    Table,
    Text,
    curve,
    figure,
    run_look,
    shortened,
)  # fmt: skip

EVIL = "</script><b onclick='x()'>&\""


def a_page(**more) -> Page:
    trace = curve(EVIL, [1, 2], [float("nan"), 0.5], run_look(0), "%{y}")
    chart = Chart(EVIL, EVIL, figure([trace], "x", "y"))
    table = Table(
        EVIL, EVIL, [Column(EVIL, best=True), Column("words")],
        [Row(EVIL, [float("nan"), EVIL]), Row("b", [0.25, None], remark=EVIL, run=8), Row("c", [0.125, "w"]),
         Row("ceiling", [1.0, "w"], reference=True)],
        EVIL, {"part": [EVIL, "valid"]},
    )  # fmt: skip
    return Page(
        EVIL,
        [Section(EVIL, EVIL, [table, chart, Text(EVIL, EVIL)])],
        [EVIL],
        [EVIL],
        [EVIL],
        **more,
    )


@pytest.fixture(scope="module")
def text() -> str:
    return render(a_page())


def own(text: str) -> str:
    """The page without the library."""
    return re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.S)


def test_names_cannot_become_markup(text):
    assert "<b onclick" not in text
    assert text.count("<script") == text.lower().count("</script") == 3
    assert "&lt;/script&gt;&lt;b onclick=&#x27;x()&#x27;&gt;&amp;&quot;" in text


def test_a_figure_holds_null_for_nan_and_escaped_names(text):
    (found,) = json.loads(re.search(r'id="figures">(.*?)</script>', text, re.S)[1])
    assert found["data"][0]["y"] == [None, 0.5]
    assert found["data"][0]["name"] == "&lt;/script&gt;&lt;b onclick='x()'&gt;&amp;\""


def test_the_best_of_the_runs_is_bold_and_references_are_not(text):
    assert re.findall(r"<b>(.*?)</b>", own(text)) == ["0.2500"]


def test_nothing_is_fetched_and_the_page_is_small_enough(text):
    links = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", own(text))
    assert links == ["#s0"] and "url(" not in own(text) and "@import" not in own(text)
    assert "default-src 'none'" in text
    assert 4e6 < len(text.encode()) < 6e6


def test_numbers():
    cells = [number(v) for v in (None, 1234, 0.12345, 12345.678, True, "w", float("nan"), -0.5)]
    assert cells == ["-", "1,234", "0.1235", "12,345.6780", "True", "w", "nan", "-0.5000"]
    assert number(12.34, 1) == "12.3"


def test_clean_replaces_what_json_cannot_say():
    infinite = {"a": [1, float("inf"), (2.5, float("nan"))], 3: "x"}
    assert clean(infinite) == {"a": [1, None, [2.5, None]], "3": "x"}


def test_runs_are_told_apart_without_colour():
    looks = [run_look(n) for n in range(28)]
    assert len({look[:2] for look in looks}) == len({look[1:] for look in looks}) == 28
    assert len({(colour, symbol) for colour, _, symbol in looks}) == 28
    assert run_look(0) == ("@0", "solid", "circle")
    assert len({run_look(n)[0] for n in range(7)}) == 7


def test_long_names_lose_their_middle():
    name = "a" * 30 + "b" * 30
    assert shortened(name) == "a" * 22 + " … " + "b" * 22
    assert shortened("short") == "short"


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/page\.html: cannot be written"):
        write_page(a_page(), tmp_path / "file" / "page.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match="taken: cannot be written"):
        write_page(a_page(), tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_without_plotly_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(SsmrecError, match=r"pip install 'ssmrec\[report\]'"):
        write_page(a_page(), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
