"""The page of guarantees names tests that exist, and leaves no need out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "guarantees.md").read_text(encoding="utf-8")
NEEDS = dict(A=33, B=30, C=24, D=21, E=20, F=20, G=17, H=15, I=12, J=12, K=11, L=10)
"""How many needs each group of reports has."""


@pytest.fixture(scope="module")
def defined() -> set[str]:
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.M))
    return found


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_test_named_exists(defined):
    named = set(re.findall(r"`(test_\w+)`", " ".join(row[-1] for row in rows())))
    assert len(named) > 100
    assert sorted(named - defined) == []


def test_every_need_has_one_line():
    given = [need for row in rows() for need in re.findall(r"\b[A-L]\d+\b", row[0].split(":")[0])]
    wanted = [f"{group}{n}" for group, size in NEEDS.items() for n in range(1, size + 1)]
    assert sorted(given) == sorted(wanted)


def test_a_line_without_a_test_says_why():
    for row in rows():
        assert len(row) == 3, row
        assert re.search(r"`test_\w+`", row[2]) or (row[2] in ("-", "tests") and row[1]), row
