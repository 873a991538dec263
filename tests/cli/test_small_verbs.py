"""Verbs of a few lines: recipes, what serve puts on its page, the demo's parts on the bundled data."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import yaml

from ssmrec.cli import demo, titles
from ssmrec.config import merged, read_recipe, recipes
from ssmrec.data import DataConfig
from ssmrec.errors import DataError
from ssmrec.recommender import Recommender


def test_recipes_are_listed_and_printed(command):
    code, out, _ = command("recipes")
    assert code == 0 and all(name in out for name in recipes())
    code, out, _ = command("recipes", "online-retail-mf-bpr")
    assert code == 0 and yaml.safe_load(out)["loss"]["name"] == "bpr"
    code, _, err = command("recipes", "online-retail-mf-bpx")
    assert code == 2 and "online-retail-mf-bpr" in err


@pytest.fixture(scope="module")
def run_on(tastes):
    """`run_on(data, update)`: a run of such data settings, updated with a source or not."""
    fitted = Recommender({"name": "ease"}).fit(tastes.train, progress=False).trained_

    def made(data, update=None):
        more = {} if update is None else {"update": {"new_data": str(update)}}
        config = fitted.config.model_copy(update={"data": data})
        return replace(fitted, config=config, metrics={**fitted.metrics, **more})

    return made


def test_titles_of_an_updated_run_are_those_of_both_days(tmp_path, run_on):
    for day, rows in (("one", "7,Lamp\n8,Cup\n"), ("two", "8,Mug\n9,Bowl\n")):
        (tmp_path / day).mkdir()
        (tmp_path / day / "items.csv").write_text(f"item,title\n{rows}")
    run = run_on(DataConfig(source=str(tmp_path / "one")), tmp_path / "two")
    assert titles.titles_or_none(run) == {"7": "Lamp", "8": "Mug", "9": "Bowl"}
    run = run_on(DataConfig(source=str(tmp_path / "one")), tmp_path / "gone")
    assert titles.titles_or_none(run) == {"7": "Lamp", "8": "Cup"}


def test_titles_of_a_file(tmp_path):
    file = tmp_path / "titles.csv"
    file.write_text("item,title\n7,Lamp\n8,\n7,Other lamp\n9,Cup\n")
    assert titles.titles_of(DataConfig(), file) == {"7": "Lamp", "9": "Cup"}
    for names in ("item,colour", "colour,title"):
        file.write_text(f"{names}\n7,red\n")
        with pytest.raises(DataError, match=f"needs a column of item ids .*; it has {names[:4]}"):
            titles.titles_of(DataConfig(), file)


@pytest.mark.parametrize(
    "names", ["sku,title,category", "Product_ID,Name,price", "what,description,item"]
)
def test_titles_by_the_shops_own_names(tmp_path, names, run_on):
    """The name that the run was given, here `what`, goes before the usual ones."""
    (tmp_path / "items.csv").write_text(f"{names}\n007,Lamp,x\n00239,Cup,y\n")
    data = DataConfig(source=str(tmp_path), item="what")
    want = {"007": "Lamp", "00239": "Cup"}
    assert titles.titles_or_none(run_on(data)) == want
    assert titles.titles_of(data, tmp_path / "items.csv") == want


def test_titles_of_the_data_set_and_of_none():
    assert titles.titles_of(DataConfig(source=titles.PYTHON)) == {}
    assert "HAND WARMER" in " ".join(titles.titles_of(DataConfig(source="online-retail")).values())


@pytest.mark.slow
@pytest.mark.realdata
def test_the_demo_shows_what_the_readme_says(command, tmp_path, monkeypatch):
    """All of it, but two epochs of each training."""

    def short(name: str) -> dict:
        dim = {} if "ease" in name else {"dim": 16}
        return merged(read_recipe(name), {"train": {"epochs": 2}, "model": dim})

    monkeypatch.setattr(demo, "read_recipe", short)
    code, out, err = command("demo")
    assert code == 0, err
    for line in (
        "LightGCN + SSM",
        "blended with EASE",
        "MF + BPR",
        "most popular",
        "best possible",
        "bought later",
    ):
        assert line in out
    assert (tmp_path / "runs" / "demo" / "metrics.json").exists()


def test_a_recipe_of_ones_own_is_printed(command, tmp_path):
    (tmp_path / "mine.yaml").write_text("# mine\nmodel: {name: mf}\n")
    assert command("recipes", "mine.yaml") == (0, "# mine\nmodel: {name: mf}\n", "")
    code, _, err = command("recipes", "other.yaml")
    assert code == 2 and err.startswith("error: other.yaml: cannot be read")


def test_titles_that_cannot_be_read_stop_no_list(tmp_path, caplog, run_on):
    (tmp_path / "items.csv").write_text("item,colour\n7,red\n")
    assert titles.titles_or_none(run_on(DataConfig(source=str(tmp_path)))) == {}
    assert "without titles: " in caplog.text and "needs a column of item ids" in caplog.text


def test_titles_by_ids_that_parquet_holds_as_floats(tmp_path):
    file = tmp_path / "titles.parquet"
    pl.DataFrame({"item": [7.0, 8.0], "name": ["Lamp", "Cup"]}).write_parquet(file)
    assert titles.titles_of(DataConfig(), file) == {"7": "Lamp", "8": "Cup"}


def test_a_list_that_is_the_same_for_all_has_no_reasons(command, tmp_path, tastes):
    Recommender("popular").fit(tastes.train, progress=False).save(tmp_path / "popular")
    code, out, err = command("explain", "popular", str(tastes.train.users.ids[0]))
    assert code == 0 and not out.strip() and "nothing that the user has speaks for these" in err
    code, _, err = command("similar", "popular", str(tastes.train.items.ids[0]))
    assert code == 2 and "popularity tells nothing of which items are alike" in err
