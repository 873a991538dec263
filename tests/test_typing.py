"""Type checkers of others read the annotations of the package."""

from __future__ import annotations

from importlib.resources import files


def test_the_package_says_that_it_is_typed():
    """Without this file they take every name of the package for unknown (PEP 561)."""
    assert files("ssmrec").joinpath("py.typed").is_file()
