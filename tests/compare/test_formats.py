"""Odd labels in a table are shown as they are, whatever its form takes for marks."""

from __future__ import annotations

import re
from html import unescape

import pytest

from ssmrec.compare import FORMATS, Block, Row, make_plan

ODD = r"EASE^R_{x} \ 50% & |pipe| <i>"


def printed(form, label, data="online-retail", **row):
    plan = make_plan({"data": "online-retail", "models": "mf", "losses": "ssm", "seeds": 1})
    values = {"recall@20": [0.5], "ndcg@20": [0.25]}
    return FORMATS[form](plan, [Block(data, [Row(label, values, **row)], label)])


@pytest.mark.parametrize(
    ("label", "want"),
    [
        (ODD, r"EASE^R\_{x} \\ 50% &amp; \|pipe\| &lt;i&gt;"),
        ("_a_ *b* `c` [d](e) &lt;", r"\_a\_ \*b\* \`c\` [d]\(e) &amp;lt;"),
        ("sl_at_k [.5, 0]", "sl_at_k [.5, 0]"),
    ],
)
def test_markdown(label, want):
    text = printed("md", label)
    assert f"\n| {want} | **0.5000** | **0.2500** |\n" in text
    html = pytest.importorskip("markdown").markdown(text, extensions=["tables"])
    (cell,) = re.findall("<td>(.*)</td>\n<td[^>]*><strong>0.5000", html)
    assert unescape(cell) == label


def test_markdown_outside_of_the_cells():
    text = printed("md", "<i> _x_", data="<b>", change=0.5)
    assert text.startswith("### &lt;b&gt;\n")
    assert "- change: ndcg@20 against &lt;i&gt; \\_x\\_; no p" in text


@pytest.mark.parametrize(
    ("label", "want"),
    [
        (ODD, r"EASE\^{}R\_\{x\} \textbackslash{} 50\% \& $|$pipe$|$ $<$i$>$"),
        (r"a_b & 50% {#1} $x$ \y", r"a\_b \& 50\% \{\#1\} \$x\$ \textbackslash{}y"),
        ("a@bf@ ± ~1", r"a@bf@ $\pm$ \textasciitilde{}1"),
        # after the end of a row it would be taken for that row's spacing
        ("[.5, 0]", "{}[.5, 0]"),
    ],
)
def test_latex(label, want):
    assert "\n" + want + r" & \textbf{0.5000} & \textbf{0.2500} \\" in printed("latex", label)


def test_who_chose_is_in_every_form():
    """What no one may miss is no comment in LaTeX, and has a column in CSV."""
    facts = frozenset({chosen := "protocol published: epoch chosen on test"})
    assert "\n\\par WARNING: chosen on TEST, as papers did" in printed("latex", "mf", facts=facts)
    assert printed("csv", "mf", facts=facts).splitlines()[1].endswith(f",{chosen}")
    facts = frozenset({"protocol valid: epoch chosen on valid"})
    assert "WARNING" not in printed("latex", "mf", facts=facts)
