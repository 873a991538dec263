"""Verbs of a few lines: recipes, what serve puts on its page, the demo's parts on the bundled data."""

from __future__ import annotations

import pytest
import yaml

from ssmrec.cli import demo, serve
from ssmrec.config import merged, read_recipe, recipes
from ssmrec.errors import DataError


def test_recipes_are_listed_and_printed(command):
    code, out, _ = command("recipes")
    assert code == 0 and all(name in out for name in recipes())
    code, out, _ = command("recipes", "online-retail-mf-bpr")
    assert code == 0 and yaml.safe_load(out)["loss"]["name"] == "bpr"
    code, _, err = command("recipes", "online-retail-mf-bpx")
    assert code == 2 and "online-retail-mf-bpr" in err


def test_titles_of_a_file(tmp_path):
    file = tmp_path / "titles.csv"
    file.write_text("item,title\n7,Lamp\n8,\n7,Other lamp\n9,Cup\n")
    assert serve._titles(file, "x.csv") == {"7": "Lamp", "9": "Cup"}
    file.write_text("item,colour\n7,red\n")
    with pytest.raises(DataError, match="needs a column item and one of"):
        serve._titles(file, "x.csv")


def test_titles_of_the_data_set_and_of_none():
    assert serve._titles(None, serve.PYTHON) == {}
    assert "HAND WARMER" in " ".join(serve._titles(None, "online-retail").values())


@pytest.mark.slow
@pytest.mark.realdata
def test_the_demo_shows_what_the_readme_says(command, tmp_path, monkeypatch):
    """All of it, but two epochs of each training."""
    short = {"train": {"epochs": 2}, "model": {"dim": 16}}
    monkeypatch.setattr(demo, "read_recipe", lambda name: merged(read_recipe(name), short))
    code, out, err = command("demo")
    assert code == 0, err
    for line in ("LightGCN + SSM", "MF + BPR", "most popular", "best possible", "bought later"):
        assert line in out
    assert (tmp_path / "runs" / "demo" / "metrics.json").exists()
