"""The harder variants: noise that nobody has, and test pairs spread over the items."""

import polars as pl
import pytest
from benchmarks.harder import EVEN, NOISE, write

from ssmrec.data import DataConfig, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("harder")
    write(place, "online-retail")
    return place


def parts(folder):
    return {
        name: pl.read_parquet(folder / f"{name}.parquet") for name in ("train", "valid", "test")
    }


def test_noise_is_a_fifth_more_pairs_that_are_in_no_part(folder):
    found = parts(folder / "noise")
    split = prepare(DataConfig(source="online-retail"), 0)
    assert len(found["train"]) == len(split.train) + round(NOISE * len(split.train))
    everything = pl.concat(found.values())
    assert everything.n_unique() == len(everything)  # no pair twice, within a part or across
    assert len(found["valid"]) == len(split.valid) and len(found["test"]) == len(split.test)


def test_no_item_has_more_test_pairs_than_it_may_keep(folder):
    found = parts(folder / "shift")
    split = prepare(DataConfig(source="online-retail"), 0)
    counts = found["test"].group_by("item").len()
    degrees = split.test.item_degrees
    assert counts["len"].max() == EVEN
    assert len(found["test"]) == degrees.clip(max=EVEN).sum()
    assert len(found["train"]) == len(split.train)
