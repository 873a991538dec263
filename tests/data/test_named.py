"""Named sets: where they are looked for, what is said when they are missing, titles, facts."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from ssmrec.data import DataConfig, SplitConfig, item_titles, load, prepare, split, statistics
from ssmrec.data.named import BUNDLED, NAMED, find, locate
from ssmrec.data.report import gini
from ssmrec.errors import DataError

SHARED = Path(os.environ.get("SSMREC_DATA") or Path(__file__).parents[3] / "shared" / "data")

# users, items, train, test, Gini of the items in train, test items without train: published with
# the files.
PUBLISHED = {
    "gowalla": (29858, 40981, 810128, 217242, 0.4410, 0),
    "yelp2018": (31668, 38048, 1237259, 324147, 0.5315, 0),
    "amazon-cds": (43169, 35648, 604475, 172951, None, None),
    "ml-100k": (943, 1682, 90570, 9430, 0.6242, 2),
    "ml-1m-time": (6038, 3533, 462672, 112609, 0.7177, 75),
    "movietweetings-40k": (9063, 6798, 34984, 5016, 0.7369, 492),
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An own data folder and an own cache, both empty."""
    monkeypatch.setenv("SSMREC_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def put(folder: Path, text: str = "0 1 2\n1 2\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(text)
    return folder


def test_own_folder_then_cache_then_bundled(places):
    assert find("online-retail") == BUNDLED / "online-retail"
    cached = put(places / "cache" / "ssmrec" / "data" / "online-retail")
    assert find("online-retail") == cached
    own = put(places / "own" / "online-retail")
    assert find("online-retail") == own
    assert len(load("online-retail")) == 3


def test_a_set_of_ones_own_needs_no_table(places):
    put(places / "own" / "shop")
    assert load("shop").users.ids.to_list() == [0, 1]


def test_a_missing_set_says_where_to_put_it(places):
    place = str(places / "cache" / "ssmrec" / "data" / "gowalla")
    with pytest.raises(DataError, match="run `ssmrec data fetch gowalla`") as caught:
        load("gowalla")
    assert place in str(caught.value)
    with pytest.raises(DataError, match=r"ml-100k is not here: put its files.*ua\.base"):
        load("ml-100k")
    with pytest.raises(DataError, match="did you mean 'gowalla'"):
        load("gowala")


def test_sources_that_are_no_data(places):
    (places / "empty").mkdir()
    with pytest.raises(DataError, match="the folder has no train file"):
        load(places / "empty")
    with pytest.raises(DataError, match=r"here\.csv: no such file"):
        load("here.csv")


def test_parts_of_a_folder_and_files_given_beside_it(places):
    own = put(places / "own" / "shop")
    (own / "test.txt").write_text("0 3\n")
    other = places / "other.csv"
    other.write_text("0,3\n")
    assert locate(DataConfig(source="shop")) == {
        "train": own / "train.txt", "test": own / "test.txt",
    }  # fmt: skip
    given = locate(DataConfig(source="shop", test=str(other)))
    assert given == {"train": own / "train.txt", "test": other}


def test_titles_of_the_bundled_items(monkeypatch):
    monkeypatch.delenv("SSMREC_DATA", raising=False)
    titles = item_titles("online-retail")
    assert titles is not None
    assert titles.columns == ["item", "title"]
    assert titles.schema["item"] == load("online-retail").items.ids.dtype
    assert titles.filter(pl.col("item") == 1)["title"].to_list() == ["GROOVY CACTUS INFLATABLE"]


def test_titles_of_a_folder_or_none(places):
    own = put(places / "own" / "shop")
    assert item_titles("shop") is None
    (own / "items.csv").write_text("item,title\n2,pear\n1,apple\n")
    found = item_titles(own)
    assert found is not None and found.rows() == [(1, "apple"), (2, "pear")]


def test_facts_of_the_bundled_set(monkeypatch):
    """Against its README: counts, density, Gini of train, cold items, median and mean, span."""
    monkeypatch.delenv("SSMREC_DATA", raising=False)
    facts = statistics(prepare(DataConfig(split=SplitConfig(valid=0)), seed=0))
    assert (facts["users"], facts["items"]) == (4334, 3659)
    assert (facts["train"], facts["test"], facts["interactions"]) == (214707, 51514, 266221)
    assert f"{facts['density']:.5%}" == "1.67877%"
    assert round(facts["gini"], 4) == 0.6132
    assert (facts["test_users"], facts["test_cold_users"], facts["test_cold_items"]) == (
        4076,
        0,
        76,
    )
    assert (facts["per_user_min"], facts["per_user_median"], facts["per_user_max"]) == (1, 28, 1428)
    assert round(facts["per_user_mean"], 2) == 49.54
    assert (facts["first"][:10], facts["last"][:10]) == ("2010-12-01", "2011-12-09")
    assert round(statistics(load("online-retail"))["gini"], 4) == 0.5910


@pytest.mark.parametrize("name", PUBLISHED)
def test_facts_of_public_sets(name, monkeypatch):
    if not (SHARED / name).is_dir():
        pytest.skip("data set not here")
    monkeypatch.setenv("SSMREC_DATA", str(SHARED))
    facts = statistics(prepare(DataConfig(source=name, split=SplitConfig(valid=0)), seed=0))
    users, items, train, test, popularity, cold = PUBLISHED[name]
    assert (facts["users"], facts["items"]) == (users, items)
    assert (facts["train"], facts["test"]) == (train, test)
    assert (NAMED[name].users, NAMED[name].items, NAMED[name].pairs) == (users, items, train + test)
    if popularity is not None:
        assert round(facts["gini"], 4) == popularity
        assert facts["test_cold_items"] == cold


def test_gini_by_hand():
    assert gini([3, 3, 3]) == 0
    assert gini([0, 0, 0, 8]) == pytest.approx(3 / 4)
    # mean absolute difference of (1, 3) over all 4 pairs is 1, twice the mean is 4
    assert gini([3, 1]) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("unit", "n"), [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
def test_other_units_than_seconds_are_told(unit, n):
    frame = pl.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": [0, 1_700_000_000 * n]})
    facts = statistics(load(frame))
    assert facts["timestamp_unit"] == f"looks like {unit}"
    assert facts["last"] == "2023-11-14 22:13:20"
    with pytest.raises(DataError, match=f"the timestamps look like {unit}; set data.split.cut"):
        split(load(frame), "time", cut=1_800_000_000 * n)


def test_titles_of_a_folder_below_the_home(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places))
    own = put(places / "shop")
    (own / "items.csv").write_text("item,title\n1,apple\n")
    assert len(load("~/shop")) == 3
    assert item_titles("~/shop").rows() == [(1, "apple")]  # type: ignore[union-attr]


def test_a_word_among_the_numbers_of_the_titles_stops_nothing(places):
    own = put(places / "shop")
    lines = [f"{n},title {n}" for n in range(20)]
    (own / "items.csv").write_text("\n".join(["item,title", *lines, "GIFT-CARD,a gift"]) + "\n")
    found = item_titles(own)
    assert found is not None and found.schema["item"] == pl.String
    assert dict(found.iter_rows())["7"] == "title 7" and len(found) == 21
