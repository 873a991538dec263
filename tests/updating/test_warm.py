"""Training on from a run: rows follow their ids, new ones get a start, validation was never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ssmrec
from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.models import MF, MODELS
from ssmrec.training import Listener, checkpoint, load_run, save_run, train_run
from ssmrec.training.config import make_model, resolve
from ssmrec.updating.grown import grown, matched
from ssmrec.updating.update import fewer_epochs, update_run
from ssmrec.updating.warm import WarmStart, begin, from_items, row_sides

TRAINED = sorted(name for name, cls in MODELS.items() if not cls.closed_form)


def pairs(rows, times=None, text=False):
    """Interactions of external (user, item) ids."""
    sides = [pl.Series([row[side] for row in rows]) for side in (0, 1)]
    sides = [side.cast(pl.String if text else pl.Int64) for side in sides]
    users, items = (Vocabulary.of(side) for side in sides)
    return Interactions.from_pairs(
        users.encode(sides[0]), items.encode(sides[1]), users, items, timestamps=times
    )


def ids(data):
    return set(data.frame().select("user", "item").rows())


@pytest.fixture(scope="module")
def few():
    """A run's settings, quick ones."""

    def made(**layers):
        base = {
            "model": {"name": "mf", "dim": 8},
            "train": {"epochs": 4, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
            "evaluation": {"metrics": ["ndcg"], "ks": [5]},
        }
        for part, values in layers.items():
            base[part] = {**base.get(part, {}), **values}
        return resolve(base)

    return made


@pytest.fixture(scope="module")
def old(few, tastes):
    """A run on the tastes of the first 50 users and 35 items."""
    return train_run(few(), early(tastes))


def early(split):
    def part(data):
        return pairs([(u, i) for u, i in ids(data) if u < 150 and i < 135])

    train, valid = part(split.train), part(split.valid)
    shared = train.users, train.items
    valid = Interactions.from_pairs(
        shared[0].encode(valid.frame()["user"]), shared[1].encode(valid.frame()["item"]), *shared
    )
    return Split(train, valid, None, "given")


@pytest.fixture(scope="module")
def later(tastes):
    """All pairs of the other users and items."""
    found = ids(tastes.train) | ids(tastes.valid)
    return pairs([(u, i) for u, i in sorted(found) if u >= 150 or i >= 135])


# The pairs


def hand(old, seen, train=None):
    """`old` as if it had seen and trained on these pairs."""
    seen = pairs(seen)
    return replace(old, seen=seen, train=seen if train is None else train)


def test_counts_of_a_union(old, few):
    run = hand(old, [(1, 10), (1, 11), (2, 10), (3, 12)])
    data = grown(run, pairs([(1, 10), (2, 13), (4, 10)]), few(train={"protocol": "fixed"}))
    assert ids(data.split.train) == {(1, 10), (1, 11), (2, 10), (3, 12), (2, 13), (4, 10)}
    assert data.split.valid is None and data.split.test is None
    assert data.counts == {
        "users_known": 3, "users_new": 1, "users_gone": 0,
        "items_known": 3, "items_new": 1, "items_gone": 0,
        "pairs_known": 4, "pairs_new": 2, "pairs_duplicate": 1, "pairs_gone": 0,
    }  # fmt: skip


def test_counts_where_the_new_data_are_everything(old, few):
    run = hand(old, [(1, 10), (1, 11), (2, 10), (3, 12)])
    data = grown(run, pairs([(1, 10), (2, 13), (4, 10)]), few(train={"protocol": "fixed"}), True)
    assert ids(data.split.train) == {(1, 10), (2, 13), (4, 10)}
    assert data.split.train.users.ids.to_list() == [1, 2, 4]
    assert data.counts == {
        "users_known": 2, "users_new": 1, "users_gone": 1,
        "items_known": 1, "items_new": 1, "items_gone": 2,
        "pairs_known": 1, "pairs_new": 2, "pairs_duplicate": 0, "pairs_gone": 3,
    }  # fmt: skip


def weighed(rows):
    """Interactions of (user, item, weight)."""
    found = pairs([row[:2] for row in rows])
    weights = {row[:2]: row[2] for row in rows}
    keys = zip(found.frame()["user"], found.frame()["item"], strict=True)
    return replace(found, weights=np.array([weights[key] for key in keys], np.float32))


def weights_of(data):
    return {(u, i): w for u, i, w in data.frame().select("user", "item", "weight").rows()}


@pytest.mark.parametrize("whole", [False, True])
def test_repeated_pairs_have_the_larger_weight_or_that_of_all_there_is(old, few, whole):
    known = weighed([(1, 10, 2.0), (1, 11, 3.0), (2, 10, 4.0)])
    run = replace(old, seen=known, train=known)
    new = weighed([(1, 10, 0.5), (2, 13, 7.0), (4, 10, 1.5)])
    config = few(train={"protocol": "fixed", "weight_power": 0.5})
    data = grown(run, new, config, whole, pairs([(2, 11)]))
    found = weights_of(data.split.train)
    fresh = {(2, 13): 7.0, (4, 10): 1.5}
    if whole:
        assert found == {(1, 10): 0.5, **fresh}
    else:
        assert found == {(1, 10): 2.0, (1, 11): 3.0, (2, 10): 4.0, **fresh}
    assert data.counts["pairs_weighed_anew"] == int(whole)
    before = replace(old, seen=data.split.train, train=data.split.train)
    more = weighed([(9, 10, 1.0), (1, 10, 1.0), (2, 13, 7.0)])
    again = weights_of(grown(before, more, config).split.train)
    assert again == {**found, (1, 10): max(found[1, 10], 1.0), (9, 10): 1.0}


def test_a_known_pair_that_weighs_more_now_is_something_to_learn(old, few):
    """Purchases of what was clicked before; nothing else is new."""
    known = weighed([(1, 10, 1.0), (1, 11, 1.0), (2, 10, 1.0)])
    run = replace(old, seen=known, train=known)
    data = grown(run, weighed([(1, 10, 10.0), (2, 10, 0.5)]), few(train={"weight_power": 0.5}))
    assert weights_of(data.split.train) == {(1, 10): 10.0, (1, 11): 1.0, (2, 10): 1.0}
    assert data.split.valid is None and data.counts["pairs_weighed_anew"] == 1
    with pytest.raises(DataError, match="nothing to learn"):
        grown(run, weighed([(1, 10, 1.0)]), few(train={"weight_power": 0.5}))


@pytest.mark.parametrize(
    ("known", "new", "told"),
    [(pairs, weighed, "a time when it kept no weights"), (weighed, pairs, "name their column")],
)
def test_weights_that_are_missing_are_told(old, few, known, new, told):
    known, new = known([(1, 10, 2.0), (1, 11, 1.0)]), new([(1, 12, 2.0)])
    run = replace(old, seen=known, train=known)
    with pytest.raises(ConfigError, match=told):
        grown(run, new, few(train={"protocol": "fixed", "weight_power": 0.5}))


def test_a_run_with_weights_keeps_them_and_is_updated(tastes, few, tmp_path):
    """The start is trained on as all pairs by their weights would be; other runs keep none."""
    random = np.random.default_rng(0)
    train = replace(
        tastes.train, weights=random.lognormal(size=len(tastes.train)).astype(np.float32)
    )
    config = few(train={"protocol": "fixed", "weight_power": 1.0})
    half = np.arange(len(train)) % 2 == 0
    for power, kept in ((1.0, True), (0.0, False)):
        plain = few(train={"protocol": "fixed", "weight_power": power})
        run = train_run(plain, Split(train.take(half), None, None, "given"))
        save_run(tmp_path / str(power), run, "data")
        loaded, _ = load_run(tmp_path / str(power))
        assert (loaded.train.weights is not None) == kept
    old, _ = load_run(tmp_path / "1.0")
    assert np.array_equal(old.train.weights, train.weights[half])
    data = grown(old, train.take(~half), config)
    assert weights_of(data.split.train) == weights_of(train)
    found, flat = (
        update_run(old, replace(data, split=replace(data.split, train=part)), config, {})
        for part in (
            data.split.train,
            replace(data.split.train, weights=np.ones(len(train), np.float32)),
        )
    )
    assert not torch.allclose(found.model.vectors().users, flat.model.vectors().users, atol=1e-4)
    save_run(tmp_path / "later", found, "data")
    assert weights_of(load_run(tmp_path / "later")[0].train) == weights_of(train)


def test_what_the_run_saw_only_to_choose_its_epoch_is_trained_on_now(old, few, later):
    """Those pairs are known: never held out again, and no rows were learned from them alone."""
    data = grown(old, later, few())
    assert ids(old.seen) - ids(old.train)
    assert ids(old.seen) <= ids(data.split.train)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_validation_holds_new_pairs_alone_and_strands_nobody(old, few, later, whole, seed):
    config = few()
    config = config.model_copy(update={"seed": seed})
    data = grown(old, later, config, whole)
    train, valid = data.split.train, data.split.valid
    assert valid is not None
    assert not ids(valid) & ids(old.seen)
    assert not ids(valid) & ids(train)
    assert ids(valid) | ids(train) == (ids(later) if whole else ids(later) | ids(old.seen))
    assert 0 < len(valid) <= np.ceil(0.1 * data.counts["pairs_new"])
    assert (train.user_degrees > 0).all() and (train.item_degrees > 0).all()
    again = grown(old, later, config, whole)
    assert again.split.fingerprint == data.split.fingerprint


@pytest.mark.parametrize("seed", range(3))
def test_the_latest_new_pair_of_as_many_users_as_may_be_is_held_out(old, few, seed):
    """10 users with 1 to 10 new pairs in a random order of time; 6 of 55, then 17 of 55."""
    everything = [(u, i) for u in range(1, 11) for i in range(10, 20)]
    run = hand(old, [(u, 9) for u in range(1, 11)] + [(99, i) for i in range(10, 20)])
    new = [(u, i) for u, i in everything if i < 10 + u]
    times = np.random.default_rng(seed).permutation(len(new))
    latest = {}
    for _, (u, i) in sorted(zip(times.tolist(), new, strict=True), reverse=True):
        latest.setdefault(u, []).append((u, i))
    for share, count in ((0.1, 6), (0.3, 17)):
        config = few(data={"split": {"valid": share}}).model_copy(update={"seed": seed})
        held = ids(grown(run, pairs(new, times), config).split.valid)
        first, second = ({found[n] for found in latest.values() if len(found) > n} for n in (0, 1))
        assert len(held) == count
        assert held <= first if count <= 10 else first < held <= first | second


def test_a_test_part_is_measured_without_known_pairs(old, few):
    run = hand(old, [(1, 10), (2, 11)])
    new, test = pairs([(1, 11)]), pairs([(1, 10), (1, 11), (2, 10), (9, 99)])
    data = grown(run, new, few(train={"protocol": "fixed"}), test=test)
    assert ids(data.split.test) == {(2, 10), (9, 99)}
    assert data.split.counts["test_overlap"] == 2
    assert data.counts["users_new"] == data.counts["items_new"] == 0  # test alone makes nobody new
    with pytest.raises(DataError, match="every test pair is among the pairs to train on"):
        grown(run, new, few(train={"protocol": "fixed"}), test=pairs([(1, 10)]))


def test_rare_users_of_all_pairs_together_are_dropped(old, few, caplog):
    run = hand(old, [(1, 10), (1, 11), (2, 10), (2, 11)])
    config = few(train={"protocol": "fixed"}, data={"min_user": 2})
    data = grown(run, pairs([(1, 12), (3, 10), (4, 10), (4, 11)]), config)
    assert data.split.train.users.ids.to_list() == [1, 2, 4]
    assert data.split.counts["dropped_min_user"] == 1
    assert "1 pairs dropped by data.min_user=2, and kept nowhere: name them again" in caplog.text


def test_nothing_new_and_nobody_known_are_errors(old, few):
    run = hand(old, [(1, 10), (2, 11)])
    with pytest.raises(DataError, match="all of the 1 pairs are in the run already"):
        grown(run, pairs([(1, 10)]), few())
    with pytest.raises(
        DataError, match=r"no user and no item of the 1 new pairs is known.*\[1, 2\]"
    ):
        grown(run, pairs([(7, 70)]), few())


def test_text_and_numbers_with_the_same_text_are_the_same_id(old, few):
    run = hand(old, [(1, 10), (2, 11)])
    data = grown(
        run, pairs([("2", "10"), ("x", "11")], text=True), few(train={"protocol": "fixed"})
    )
    assert data.split.train.users.ids.to_list() == ["1", "2", "x"]
    assert data.split.train.items.ids.to_list() == [10, 11]
    assert (data.counts["users_known"], data.counts["users_new"]) == (2, 1)


# Rows follow ids

IDS = st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(before=IDS, after=IDS, data=st.data())
def test_any_vocabularies_are_matched_by_id(before, after, data):
    learned = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    )
    kinds = data.draw(st.tuples(st.booleans(), st.booleans()))
    sides = [
        Vocabulary(pl.Series(side, dtype=pl.Int64).cast(pl.String if text else pl.Int64))
        for side, text in zip((before, after), kinds, strict=True)
    ]
    found = matched(*sides, learned)
    for id_, at in zip(after, found, strict=True):
        assert at == (before.index(id_) if id_ in before and learned[before.index(id_)] else -1)


def test_leading_zeros_are_another_id():
    old, new = Vocabulary(pl.Series([7, 8])), Vocabulary(pl.Series(["007", "8"]))
    assert matched(old, new, np.array([True, True])).tolist() == [-1, 1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["mf", "lightgcn", "uipcmf"])
def test_known_rows_are_those_of_the_run_in_any_order(few, old, later, name, seed):
    """Ids lost, added and put in another order: a known id has the row it had."""
    random = np.random.default_rng(seed)
    config = few(model={"name": name})
    run = old if name == "mf" else replace(old, model=make(config, old.train, 1))
    kept = pairs([p for p in sorted(ids(old.seen) | ids(later)) if random.random() < 0.7])
    users, items = (
        side.ids.sample(fraction=1, shuffle=True, seed=seed) for side in (kept.users, kept.items)
    )
    mixed = Vocabulary(users), Vocabulary(items)
    frame = kept.frame()
    train = Interactions.from_pairs(
        mixed[0].encode(frame["user"]), mixed[1].encode(frame["item"]), *mixed
    )
    state = begin(run, make(config, train, 2), train, config)
    was, now = run.model.state_dict()["table"], state["table"]
    known = 0
    for old_ids, new_ids, degrees, old_at, new_at in (
        (old.train.users, mixed[0], old.train.user_degrees, 0, 0),
        (old.train.items, mixed[1], old.train.item_degrees, old.train.n_users, train.n_users),
    ):
        for row, id_ in enumerate(new_ids.ids):
            at = int(old_ids.encode([id_])[0])
            if at >= 0 and degrees[at] > 0:
                assert torch.equal(now[new_at + row], was[old_at + at])
                known += 1
    assert known > 40


def make(config, train, seed):
    return make_model(config, train, torch.Generator().manual_seed(seed))


# What a model's tensors are


@pytest.mark.parametrize("name", TRAINED)
def test_the_table_of_every_backbone_is_one_of_nodes(few, name):
    sides = row_sides(few(model={"name": name}))
    assert sides["table"] == "node"
    assert {side for tensor, side in sides.items() if tensor != "table"} <= {None}


class Scaled(MF):
    """Matrix factorisation with a scale of each item, as in docs/extending.md."""

    def __init__(self, config, train, generator):
        super().__init__(config, train, generator)
        self.scale = nn.Parameter(torch.ones(train.n_items, 1))


class Square(MF):
    """A matrix of all pairs of items, which no row of an item alone makes larger."""

    def __init__(self, config, train, generator):
        super().__init__(config, train, generator)
        self.square = nn.Parameter(torch.ones(train.n_items, train.n_items))


def test_a_backbone_of_ones_own_keeps_its_items_rows(few, old, later, monkeypatch):
    monkeypatch.setitem(MODELS, "scaled", Scaled)
    config = few(model={"name": "scaled"})
    run = replace(old, model=make(config, old.train, 1))
    n = old.train.n_items
    run.model.scale.data = torch.arange(n, dtype=torch.float32)[:, None]
    assert row_sides(config) == {"table": "node", "scale": "item"}
    data = grown(run, later, few(train={"protocol": "fixed"}))
    state = begin(run, make(config, data.split.train, 2), data.split.train, config)
    old_items, new_items = old.train.items, data.split.train.items
    for row, id_ in enumerate(new_items.ids):
        at = int(old_items.encode([id_])[0])
        assert state["scale"][row].item() == (at if at >= 0 else 1.0)


def test_a_tensor_without_a_row_for_each_is_refused(few, monkeypatch):
    monkeypatch.setitem(MODELS, "square", Square)
    with pytest.raises(ConfigError, match="model.name=square: square has no row for each item"):
        row_sides(few(model={"name": "square"}))


def test_a_tensor_as_long_as_there_are_users_is_not_mapped(few, old, later):
    """50 prototypes and 50 users: the prototypes are copied as they are."""
    config = few(model={"name": "uipcmf", "user_prototypes": old.train.n_users})
    run = replace(old, model=make(config, old.train, 1))
    reversed_users = Vocabulary(old.train.users.ids.reverse())
    train = Interactions.from_pairs(
        old.train.n_users - 1 - old.train.rows, old.train.indices, reversed_users, old.train.items
    )
    state = begin(run, make(config, train, 2), train, config)
    assert torch.equal(state["user_prototypes"], run.model.user_prototypes)
    assert torch.equal(state["table"][: train.n_users], run.model.table[: train.n_users].flip(0))


# New rows


def test_a_new_user_is_made_of_his_known_items_by_hand():
    """Users 0, 1 and new ones 2, 3; items 0, 1 and new ones 2, 3. Items have 3, 2, 2, 2 users."""
    data = pairs([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (0, 2), (2, 3), (3, 3)])
    table = torch.tensor(
        [[3.0, 0], [0, 5], [6, 8], [1, 1], [2, 0], [0, 4], [9, 9], [7, 7]]
    )  # users, then items
    known = np.array([True, True, False, False, True, True, False, False])
    found = from_items(table, known, data)
    # user 2 has items 0 and 1, and the length 10 of his random start
    direction = torch.tensor([2 / 3**0.5, 4 / 2**0.5])
    assert torch.allclose(found[2], 10 * direction / direction.norm())
    # user 3 has a new item alone, and stays as he began; so do new items, and all that is known
    rest = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(found[rest], table[rest])


# The training


def test_without_an_epoch_known_users_and_items_have_their_vectors(old, later, few):
    data = grown(old, later, few(train={"protocol": "fixed", "epochs": 0}))
    trained = update_run(old, data, few(train={"protocol": "fixed", "epochs": 0}), {})
    users, items = old.train.users, old.train.items
    was, now = old.model.vectors(), trained.model.vectors()
    at = trained.train.users.encode(users.ids), trained.train.items.encode(items.ids)
    learned = old.train.user_degrees > 0
    assert torch.equal(now.users[at[0][learned]], was.users[learned])
    assert torch.equal(
        now.items[at[1]][old.train.item_degrees > 0], was.items[old.train.item_degrees > 0]
    )


def test_the_start_is_a_candidate(old, later, few):
    """Epochs that change no list are no better: the start is kept, and its value is told."""
    config = few(train={"lr": 1e-9, "epochs": 3})
    data = grown(old, later, config)
    start = update_run(old, data, few(train={"epochs": 0}), {})
    heard = []

    class Ear(Listener):
        def note(self, text):
            heard.append(text)

    trained = update_run(old, data, config, {}, Ear())
    assert trained.metrics["best_epoch"] == 0 and trained.metrics["epochs"] == 3
    assert torch.equal(trained.model.table, start.model.table)
    value = trained.metrics["warm_start"]["valid"]
    assert {row["ndcg@5"] for row in trained.history} == {value}
    assert trained.metrics["valid"]["ndcg@5"] == value
    assert f"select: the warm start has ndcg@5 {value:.4f}" in heard


def test_training_on_learns_the_new_pairs(old, later, tastes, few):
    """New users get lists of their own taste."""
    config = few(train={"epochs": 10})
    test = pairs(sorted(p for p in ids(tastes.test) if p[0] >= 150))
    data = grown(old, later, config, test=test)
    trained = update_run(old, data, config, {})
    popular = trained.metrics["reference"]["most_popular"]["ndcg@5"]
    assert trained.metrics["test"]["ndcg@5"] > 1.3 * popular


def test_repeated_updates_go_on_and_keep_the_first_number_of_epochs(old, later, few, tmp_path):
    """Written and read between: the second and the third update work as the first one."""
    rows = sorted(ids(later))
    run, fingerprint = old, "first"
    for number in range(3):
        config = few(train={"epochs": fewer_epochs(run)})
        data = grown(run, pairs(rows[number::3]), config)
        trained = update_run(run, data, config, {"data_fingerprint": fingerprint})
        save_run(tmp_path / str(number), trained, data.split.fingerprint)
        run, fingerprint = load_run(tmp_path / str(number))
        assert run.metrics == trained.metrics
        assert run.epochs_afresh == old.metrics["best_epoch"]
        assert ids(pairs(rows[number::3])) <= ids(run.seen)
    assert ids(run.seen) == ids(old.seen) | ids(later)


def test_a_quarter_of_the_epochs_at_least_one(old):
    for best, fewer in ((0, 1), (1, 1), (4, 1), (5, 2), (40, 10), (41, 11)):
        assert fewer_epochs(replace(old, metrics={**old.metrics, "best_epoch": best})) == fewer


@pytest.mark.parametrize("protocol", ["valid", "refit", "fixed"])
def test_what_each_protocol_trains_on(old, later, few, protocol):
    config = few(train={"protocol": protocol, "epochs": 2})
    data = grown(old, later, config)
    trained = update_run(old, data, config, {"run": "here"})
    everything = ids(old.seen) | ids(later)
    assert ids(trained.seen) == everything
    held = ids(data.split.valid) if data.split.valid else set()
    assert ids(trained.train) == (everything - held if protocol == "valid" else everything)
    assert trained.metrics["counts"]["update"] == data.counts
    assert trained.metrics["warm_start"]["run"] == "here"
    assert trained.config == config


@pytest.mark.parametrize("name", TRAINED)
def test_every_backbone_goes_on(tastes, later, few, name):
    config = few(model={"name": name}, train={"epochs": 1})
    run = train_run(config, early(tastes))
    trained = update_run(run, grown(run, later, config), config, {})
    assert trained.metrics["epochs"] == 1 and np.isfinite(trained.metrics["valid"]["ndcg@5"])


@pytest.mark.parametrize("name", ["adap_tau", "advinfonce", "mawu", "bc"])
def test_losses_with_tables_of_users_begin_afresh(old, later, few, name):
    config = few(loss={"name": name}, train={"epochs": 1})
    run = replace(old, config=config)
    assert update_run(run, grown(run, later, config), config, {}).metrics["epochs"] == 1


def test_a_closed_form_is_solved_from_all_pairs(tastes, later, few):
    config = resolve({"model": {"name": "ease"}, "train": {"protocol": "fixed"}})
    run = train_run(config, early(tastes))
    data = grown(run, later, config)
    trained = update_run(run, data, config, {"run": "here"})
    assert torch.equal(trained.model.weights, train_run(config, data.split).model.weights)
    assert "warm_start" not in trained.metrics
    assert trained.metrics["counts"]["update"] == data.counts


def test_the_start_of_a_spectral_model_is_the_run_and_no_new_svd(old, later, few, monkeypatch):
    """Rows of a new SVD would lie in another basis than those of the run."""
    config = few(model={"name": "mf", "init": "spectral"})
    monkeypatch.setattr("ssmrec.models.start.singular_factors", None)
    trained = update_run(old, grown(old, later, config), config, {})
    assert trained.config.model["init"] == "spectral"


def test_a_recommender_is_updated_and_stays_as_it_was(tastes, later):
    first = ssmrec.Recommender(
        {"name": "mf", "dim": 8}, train={"epochs": 8, "batch_size": 128, "lr": 0.02, "threads": 1}
    )
    data = early(tastes)
    first.fit(data.train, data.valid, progress=False)
    before = first.recommend(k=3)
    second = first.update(later, progress=False)
    assert second.trained_.metrics["epochs"] == fewer_epochs(first.trained_)
    assert second.metrics_["warm_start"]["data_fingerprint"] == data.fingerprint
    new = [user for user in later.users.ids if user >= 150]
    assert second.recommend(new, k=3)["user"].unique().sort().to_list() == new
    assert first.recommend(k=3).equals(before)
    with pytest.raises(DataError, match="new must be Interactions"):
        first.update(later.frame())


class Killed(BaseException):
    """Ends the process as far as training is concerned."""


class Kill(Listener):
    def __init__(self, epochs):
        self.left = epochs

    def epoch(self, record, best):
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize(("protocol", "kill_after"), [("valid", 2), ("fixed", 2), ("refit", 5)])
def test_resumed_equals_unbroken(old, later, few, tmp_path, monkeypatch, protocol, kill_after):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    config = few(train={"protocol": protocol, "epochs": 4})
    data = grown(old, later, config)
    unbroken = update_run(old, data, config, {})
    with pytest.raises(Killed):
        update_run(
            old, data, config, {}, Kill(kill_after), WarmStart(old, tmp_path, "key", {}, False)
        )
    resumed = update_run(old, data, config, {}, None, WarmStart(old, tmp_path, "key", {}, True))
    assert torch.equal(resumed.model.table, unbroken.model.table)
    assert resumed.metrics["valid"] == unbroken.metrics["valid"]
    assert resumed.metrics["warm_start"] == unbroken.metrics["warm_start"]


def test_an_update_that_never_reaches_the_model_is_told(tastes, later, few):
    """The first epochs of `bc` train its popularity branch alone, also those of an update."""
    config = few(loss={"name": "bc"}, train={"protocol": "fixed", "epochs": 6})
    old = train_run(config, early(tastes))
    heard = []

    class Ear(Listener):
        def warning(self, text):
            heard.append(text)

    for epochs in (6, 2):
        config = few(loss={"name": "bc"}, train={"protocol": "fixed", "epochs": epochs})
        trained = update_run(old, grown(old, later, config), config, {}, Ear())
        assert len(heard) == (epochs == 2)
    assert "its 2 epochs went to the parameters of loss.name=bc alone" in heard[0]
    assert trained.metrics["epochs"] == 2
