"""The 30 cases drawn from public reports: where each is tested, and those that no room tests alone.

Numbers in the tests were computed by hand from the formulas, not taken from any library.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Interactions, Vocabulary, load, split
from ssmrec.models.graph import Graph
from ssmrec.ranking import top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.recommender import Recommender

TESTS = Path(__file__).parents[1]
CASES = {
    1: "test_values_by_hand",  # one hit is not perfect
    2: "test_values_by_hand",  # the ideal is cut at K
    3: "test_values_by_hand",  # and at the number of held-out items
    4: "test_values_by_hand",  # precision divides by K
    5: "test_case_5_duplicates_cannot_reach_a_metric test_overlap_and_repeated_held_out_rows",
    6: "test_case_6_block_does_not_matter",
    7: "test_case_7_k_above_the_catalogue test_values_by_hand",
    8: "test_case_8_users_without_a_list_count_as_zero",
    9: "test_case_9_perfect_lists_are_exactly_one",
    10: "test_case_10_train_items_never_fill_the_list",
    11: "test_case_11_overlapping_pairs_are_removed_and_counted test_overlap_and_repeated_held_out_rows",
    12: "test_case_12_log_q_is_subtracted",
    13: "test_case_13_same_user_twice_in_the_batch test_case_13_through_the_engine",
    14: "test_case_14_a_repeated_item_is_masked_for_its_own_rows_only",
    15: "test_case_15_tiny_temperature",
    16: "test_case_16_a_user_with_everything",
    17: "test_case_17_the_whole_history_is_excluded",
    18: "test_case_18_shares",
    19: "test_case_19_a_batch_twice_has_the_same_loss test_l2_acts_on_layer_0_and_not_on_the_whole_catalogue",
    20: "test_case_20_vectors_come_from_train_only "
    "test_other_test_pairs_change_nothing_but_the_test_metrics",
    21: "test_case_21_test_is_not_touched_before_training_has_ended "
    "test_no_validation_pairs_is_an_error_with_advice test_validation_comes_out_of_train_only",
    22: "test_case_22_the_model_after_training_is_the_best_one",
    23: "test_global_time_cut test_case_23_a_cold_user_is_counted_and_not_averaged",
    24: "test_case_24_no_common_id_is_an_error test_ids_1_and_text_1_across_files",
    25: "test_codes_belong_to_the_model",
    26: "test_case_26_unknown_users",
    27: "test_case_27_a_repeated_pair_is_one_edge test_repeated_pairs_become_one",
    28: "test_case_28_nothing_left_is_no_run",
    29: "test_case_29_a_misspelt_key_trains_nothing",
    30: "test_case_30_one_scoring_path test_case_30_k_is_chosen_when_asking "
    "test_recommend_equals_python test_an_index_finds_nearly_all_and_scores_exactly "
    "test_run_folder_holds_plain_formats_only",
}  # fmt: skip


def test_every_case_is_tested():
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", text, re.M))
    assert sorted(CASES) == list(range(1, 31))
    assert [name for names in CASES.values() for name in names.split() if name not in defined] == []


@pytest.fixture(scope="module")
def shop():
    """50 users with 8 of 40 items each."""
    random = np.random.default_rng(5)
    items = np.concatenate([random.choice(40, 8, replace=False) for _ in range(50)])
    return load(
        pl.DataFrame({"user": [f"u{n // 8}" for n in range(400)], "item": [f"i{n}" for n in items]})
    )


@pytest.fixture(scope="module")
def trained(shop):
    settings = {"epochs": 3, "batch_size": 64, "lr": 0.02, "threads": 1}
    return Recommender({"name": "lightgcn", "dim": 8}, train=settings).fit(shop, progress=False)


def test_codes_belong_to_the_model(tmp_path):
    """Items a, b, c, d; a data set with only b and d changes neither lists nor vectors."""
    rows = [
        ("u1", "a"),
        ("u1", "c"),
        ("u2", "a"),
        ("u2", "b"),
        ("u3", "c"),
        ("u3", "d"),
        ("u4", "b"),
    ]
    data = load(pl.DataFrame(rows, schema=["user", "item"], orient="row"))
    made = Recommender({"name": "mf", "dim": 4}, train={"epochs": 3, "threads": 1}).fit(
        data, progress=False
    )
    before = made.recommend(["u1"], 4)
    made.save(tmp_path / "run")
    again = Recommender.load(tmp_path / "run")
    assert set(before["item"]) == {"b", "d"}
    held = load(pl.DataFrame({"user": ["u1", "u1"], "item": ["b", "d"]}))
    assert held.items.ids.to_list() == ["b", "d"]  # codes 0 and 1, in the model 1 and 3
    assert again.evaluate(held).values["recall@5"] == 1.0
    assert again.evaluate(load(pl.DataFrame({"user": ["u1"], "item": ["b"]}))).values[
        "mrr@5"
    ] == pytest.approx(1 / (before["item"].to_list().index("b") + 1))
    assert again.recommend(["u1"], 4).equals(before)
    codes = again.trained_.train.items.encode(["b", "d"])
    assert codes.tolist() == [1, 3]
    for model in (made, again):
        assert model.trained_.train.items.decode([0, 1, 2, 3]).to_list() == ["a", "b", "c", "d"]
    old, new = (m.trained_.model.vectors().items for m in (made, again))
    assert torch.equal(old[1], new[1])


def test_case_23_a_cold_user_is_counted_and_not_averaged():
    """Test from second 6 on is (u2, d) and (u3, e): u3 has no train row, d and e are never listed."""
    rows = [("u1", "a", 1), ("u1", "b", 5), ("u2", "c", 2), ("u2", "d", 6), ("u3", "e", 7)]
    data = load(pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"))
    parts = split(data, "time", cut=6, valid=0)
    assert parts.test is not None and parts.counts["test_cold_users"] == 1
    made = Recommender({"name": "mf", "dim": 4}, train={"epochs": 1, "threads": 1})
    made.fit(parts.train, progress=False)
    counts = made.evaluate(parts.test).counts
    assert (counts["users"], counts["cold_users"], counts["held_out_pairs"]) == (1, 1, 1)


def test_items_without_a_train_row_are_never_listed():
    """However many are asked for, and whoever asks; as a candidate of `allow` neither."""
    mask = np.zeros((4, 6), dtype=bool)
    mask[:, :3] = np.eye(4, 3, dtype=bool) | np.eye(4, 3, -1, dtype=bool)
    ids = [Vocabulary(pl.Series(range(n))) for n in mask.shape]
    train = Interactions.from_pairs(*np.nonzero(mask), *ids)
    made = Recommender({"name": "mf", "dim": 4}, train={"epochs": 1, "threads": 1})
    listed = made.fit(train, progress=False).recommend(k=6, unknown="popular")
    assert set(listed["item"]) == {0, 1, 2}
    assert len(listed) == 4 * 3 - len(train)


def test_case_27_a_repeated_pair_is_one_edge():
    data = load(pl.DataFrame({"user": ["u", "u", "u", "v"], "item": ["i", "i", "i", "j"]}))
    assert data.counts["duplicates"] == 2 and len(data) == 2
    assert data.user_degrees.tolist() == data.item_degrees.tolist() == [1, 1]
    propagated = Graph(data).neighbours(torch.eye(4))
    # nodes u, v, i, j: 1 / sqrt(1 * 1) to the one neighbour each
    expected = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0.0]])
    torch.testing.assert_close(propagated, expected)


def test_case_28_nothing_left_is_no_run(tmp_path, command):
    (tmp_path / "a.csv").write_text("user,item,kind\n1,1,view\n1,2,view\n2,1,buy\n3,1,view\n")
    code, _, err = command("train", "a.csv", "--set", "data.min_user=5", "--out", "run")
    assert code == 2 and "no rows left: 4 read, 4 dropped by data.min_user=5" in err
    words = ["--set", "data.event=kind", "--set", "data.events=purchase", "--out", "run"]
    code, _, err = command("train", "a.csv", *words)
    assert (
        code == 2 and "no event is purchase (data.events); the names present are buy, view" in err
    )
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_case_29_a_misspelt_key_trains_nothing(tmp_path, command):
    (tmp_path / "a.csv").write_text("user,item\n1,1\n1,2\n2,1\n3,1\n")
    (tmp_path / "a.yaml").write_text("train: {batch_sise: 512}\n")
    wanted = "error: unknown key train.batch_sise, did you mean 'train.batch_size'?"
    for words in (["--recipe", "a.yaml"], ["--set", "train.batch_sise=512"]):
        code, out, err = command("train", "a.csv", *words, "--out", "run")
        assert (code, out, err.splitlines()) == (2, "", [wanted])
    code, _, err = command("train", "a.csv", "--recipe", "b.yaml", "--out", "run")
    assert code == 2 and "b.yaml: cannot be read (No such file or directory)" in err
    assert not (tmp_path / "run").exists()


def test_case_30_one_scoring_path(tmp_path, trained, shop, command):
    """Evaluation, Python, the command and its file: the same items in the same order, none seen."""
    run = trained.trained_
    users, items = ranking_vectors(run.model, run.config.ranking.similarity)
    ranked = top_k(users, items, 10, seen=[run.train, run.seen], allowed=run.train.item_degrees > 0)
    frame = trained.recommend(k=10)
    assert frame["item"].to_list() == run.train.items.decode(ranked.ids.ravel()).to_list()
    assert frame.join(shop.frame(), on=["user", "item"]).is_empty()
    trained.save(tmp_path / "run")
    code, _, err = command("recommend", "run", "--top", 10, "--out", "a.parquet")
    assert code == 0, err
    assert pl.read_parquet(tmp_path / "a.parquet").equals(frame)
    alone = pl.concat([trained.recommend([user], k=10) for user in shop.users.ids])
    assert alone.equals(frame)


def test_case_30_k_is_chosen_when_asking(trained):
    longest = trained.recommend(["u1", "u7"], k=15)
    for k in (1, 5, 10):
        assert trained.recommend(["u1", "u7"], k=k).equals(longest.filter(pl.col("rank") <= k))
