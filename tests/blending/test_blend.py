"""Blends of runs: the score, the choice of weights, what is refused, and the folder."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

import ssmrec
from ssmrec.blending import weights as blend_weights
from ssmrec.blending.blend import blend
from ssmrec.blending.weights import choose_weights
from ssmrec.data import Split, merge
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.evaluation import evaluate
from ssmrec.models import HistoryRows, ScoringRows
from ssmrec.models.blend import ScoreScale, VectorScale
from ssmrec.ranking import ItemRows
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.serving.export import vectors_of
from ssmrec.serving.foldin import FoldIn
from ssmrec.training import Listener, label, load_run, save_run, train_run
from ssmrec.training.judges import some_users

SVD = {"name": "svd", "dim": 4}
MF = {"name": "mf", "dim": 8}


@pytest.fixture
def two(small, tastes):
    """A trained and a solved run under `valid`."""
    return [train_run(small(model=m, train={"protocol": "valid"}), tastes) for m in (MF, SVD)]


def scores(trained) -> np.ndarray:
    users, items = ranking_vectors(trained.model, trained.config.ranking.similarity)
    if isinstance(users, ScoringRows):
        return users.scores(items).double().numpy()
    return (users.double() @ items.double().T).numpy()


def standardised(trained) -> np.ndarray:
    """Scores over their standard deviation among the items with training pairs, user by user."""
    found = scores(trained)
    return found / found[:, trained.train.item_degrees > 0].std(axis=1, keepdims=True)


def test_scaled_vectors_have_scores_of_one_spread_and_lengths_of_the_weight():
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 3, generator=random) for n in (5, 9))
    users[4] = 0
    known = torch.tensor([True] * 8 + [False])
    scale = VectorScale.of(7 * items, known, 0.3)
    x, y = scale.users(users), scale.items(7 * items)
    found, plain = (x @ y.T).numpy(), (users @ items.T).numpy()
    np.testing.assert_allclose(
        found[:4], 0.3 * plain[:4] / plain[:4, :8].std(axis=1, keepdims=True), rtol=1e-5
    )
    assert not found[4].any()  # a user without a vector stays without
    assert y[:8].square().sum(1).mean() == pytest.approx(0.3)


def test_the_score_is_the_weighted_sum_of_the_standardised_scores(two, tastes):
    found = blend(two, tastes, weights=[3, 1])
    expected = 0.75 * standardised(two[0]) + 0.25 * standardised(two[1])
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    parts = found.config.model["parts"]
    assert [(part["name"], part["weight"]) for part in parts] == [("mf + ssm", 0.75), ("svd", 0.25)]
    assert parts[0]["settings"] == two[0].config.model_dump(mode="json")
    assert label(found.config) == "0.75 mf + ssm & 0.25 svd"
    assert [side.shape[1] for side in ranking_vectors(found.model, "dot")] == [12, 12]
    facts = found.metrics
    assert (facts["protocol"], facts["selected_on"], facts["stopped"]) == (
        "valid",
        "valid",
        "blended",
    )
    assert facts["similarity"] == {"train": None, "rank": "dot"}


def value(weights, runs, split) -> float:
    mixed = sum(w * standardised(run) for w, run in zip(weights, runs, strict=True))
    result = evaluate(
        torch.from_numpy(mixed), torch.eye(mixed.shape[1]).double(), split.valid, [split.train],
        ["ndcg@5"], allowed=split.train.item_degrees > 0,
    )  # fmt: skip
    return result.values["ndcg@5"]


def test_the_chosen_weights_are_the_best_of_those_tried(two, tastes):
    found = blend(two, tastes)
    chosen = found.metrics["valid"]["ndcg@5"]
    assert chosen >= max(value((w, 1 - w), two, tastes) for w in np.linspace(0, 1, 11)) - 1e-9
    weights = {part["name"]: part["weight"] for part in found.config.model["parts"]}
    assert sum(weights.values()) == pytest.approx(1)
    again = value([weights.get("mf + ssm", 0), weights.get("svd", 0)], two, tastes)
    assert again == pytest.approx(chosen)
    assert set(found.metrics["test"]) == {"recall@5", "ndcg@5"}


def test_a_run_that_adds_nothing_is_left_out(two, small, tastes):
    again = train_run(small(model=SVD, train={"protocol": "valid"}), tastes)
    with pytest.raises(RunError, match="no other run makes svd better on validation"):
        blend([two[1], again], tastes)
    pair, all_three = blend(two, tastes), blend([*two, again], tastes)
    assert all_three.config.model["parts"] == pair.config.model["parts"]


def test_the_order_of_the_runs_plays_no_part(two, small, tastes):
    third = train_run(small(train={"protocol": "valid"}), tastes)
    runs = [two[0], third, two[1]]
    values = {blend(order, tastes).metrics["valid"]["ndcg@5"] for order in permutations(runs)}
    assert len(values) == 1
    assert values.pop() >= blend(two, tastes).metrics["valid"]["ndcg@5"]


def test_refit_blends_the_runs_trained_again_with_the_same_weights(two, small, tastes):
    found = blend(two, tastes, weights=[0.6, 0.4], refit=True)
    again = [train_run(small(model=m, train={"protocol": "refit"}), tastes) for m in (MF, SVD)]
    expected = 0.6 * standardised(again[0]) + 0.4 * standardised(again[1])
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    assert len(found.train) == len(tastes.train) + len(tastes.valid)
    assert found.metrics["protocol"] == "refit"
    before = blend(two, tastes, weights=[0.6, 0.4])
    assert found.metrics["valid"] == before.metrics["valid"]
    assert found.metrics["test"] != before.metrics["test"]


def test_what_cannot_be_blended_is_refused(two, small, tastes):
    with pytest.raises(ConfigError, match="at least two runs"):
        blend(two[:1], tastes)
    with pytest.raises(ConfigError, match="each named once"):
        blend([two[0], two[0]], tastes)
    for weights in ([1.0, 0.0], [1.0], [1.0, float("nan")], [float("inf"), 1.0]):
        with pytest.raises(ConfigError, match="must be 2 numbers above 0"):
            blend(two, tastes, weights=weights)
    refit = train_run(small(model=SVD, train={"protocol": "refit"}), tastes)
    with pytest.raises(DataError, match="svd and mf . ssm learned from different pairs"):
        blend([two[0], refit], tastes)
    other = train_run(small(model={**SVD, "dim": 3}, train={"protocol": "refit"}), tastes)
    with pytest.raises(ConfigError, match=r"have learned from them: .* or name the weights"):
        blend([refit, other], tastes)
    with pytest.raises(ConfigError, match="or leave the refit out"):
        blend([refit, other], tastes, weights=[1, 1], refit=True)
    with pytest.raises(
        ConfigError, match=r"and there are none: blend runs of train\.protocol=valid"
    ):
        blend(two, Split(tastes.train, None, None, "given"))
    both = blend(two, tastes, weights=[1, 1])
    assert blend([both, two[0]], tastes, weights=[1, 1]).metrics["stopped"] == "blended"
    with pytest.raises(ConfigError, match="name its runs in its place"):
        blend([both, two[0]], tastes, weights=[1, 1], refit=True)
    with pytest.raises(ConfigError, match="made of finished runs"):
        train_run(small(model={"name": "blend"}), tastes)


def test_a_blend_in_a_blend_stands_in_brackets(two, small, tastes):
    third = train_run(small(model={**SVD, "dim": 3}, train={"protocol": "valid"}), tastes)
    inner = blend(two, tastes, weights=[3, 1])
    outer = blend([inner, third], tastes, weights=[1, 1])
    assert label(outer.config) == "0.5 (0.75 mf + ssm & 0.25 svd) & 0.5 svd"
    last = blend([third, outer], tastes, weights=[1, 4])
    assert label(last.config) == f"0.2 svd & 0.8 ({label(outer.config)})"


def test_an_epoch_chosen_on_test_is_told(small, tastes):
    published = train_run(small(model=MF, train={"protocol": "published"}), tastes)
    solved = train_run(small(model=SVD, train={"protocol": "fixed"}), tastes)
    found = blend([solved, published], tastes, weights=[0.5, 0.5])
    assert found.metrics["selected_on"] == "test" and found.metrics["valid"] is None


def test_a_blend_is_kept_in_a_folder(two, tastes, tmp_path):
    found = blend(two, tastes, weights=[0.6, 0.4])
    save_run(tmp_path, found, tastes.fingerprint)
    read, _ = load_run(tmp_path)
    assert read.config == found.config and read.metrics == found.metrics
    assert (scores(read) == scores(found)).all()


def test_recommenders_are_blended(tastes, tmp_path):
    both = [
        ssmrec.Recommender(model, train={"epochs": 2, "metric": "ndcg@5"})
        .fit(tastes.train, tastes.valid, progress=False)
        for model in (MF, SVD)
    ]  # fmt: skip
    found = both[0].blend(both[1], valid=tastes.valid, refit=True, progress=False)
    assert found.evaluate(tastes.test).values.keys() >= {"ndcg@5"}
    assert found.recommend([100], k=3).height == 3
    for number, one in enumerate(both):
        one.save(tmp_path / str(number))
    loaded = [ssmrec.Recommender.load(tmp_path / str(number)) for number in range(2)]
    timed = replace(tastes.valid, timestamps=np.arange(len(tastes.valid)))  # folders keep none
    again = loaded[0].blend(loaded[1], valid=timed, refit=True, progress=False)
    assert again.evaluate(tastes.test).values == found.evaluate(tastes.test).values
    with pytest.raises(ConfigError, match="validation"):
        both[0].blend(both[1], progress=False)


def test_runs_that_know_less_than_the_split_are_judged_by_its_validation_pairs(small, tastes):
    """Fitted without validation pairs, they may be blended by pairs that were held out elsewhere."""
    alone = replace(tastes, valid=None, test=None)
    runs = [train_run(small(model=m, train={"protocol": "fixed"}), alone) for m in (MF, SVD)]
    found = blend(runs, tastes)
    assert found.metrics["selected_on"] == "valid" and found.metrics["valid"]


def test_of_many_users_some_choose_the_weights(two, small, tastes):
    few = small(model=MF, train={"protocol": "valid", "valid_users": 7})
    runs = [train_run(few, tastes), two[1]]
    found = blend(runs, tastes, weights=[0.25, 0.75])
    judged = replace(tastes, valid=some_users(tastes.valid, 7, few.seed))
    assert found.metrics["counts"]["valid"]["users"] == 7
    assert found.metrics["valid"]["ndcg@5"] == pytest.approx(value([0.25, 0.75], runs, judged))
    chosen = choose_weights(runs, judged, Listener(), ["mf", "svd"])
    assert len(chosen) == 2
    told = []
    listener = Listener()
    listener.note = told.append
    weights = {p["weight"] for p in blend(runs, tastes, listener=listener).config.model["parts"]}
    assert sum(note.startswith("validation looks at 7 of ") for note in told) == 1
    told.clear()
    blend(runs, tastes, weights=[0.5, 0.5], refit=True, listener=listener)
    assert not any("validation looks at" in note for note in told)  # it does not, any more
    assert weights == {float(f"{w:.6g}") for w in chosen.values()}
    assert found.seen.fingerprint == merge(tastes.train, tastes.valid).fingerprint


def test_a_refit_that_is_interrupted_gives_nothing(two, tastes):
    class Stop(Listener):
        def epoch(self, record, best):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blend(two, tastes, weights=[1, 1], refit=True, listener=Stop())


def test_a_run_that_was_not_finished_is_not_trained_again(two, tastes):
    stopped = replace(two[0], metrics={**two[0].metrics, "stopped": "interrupted"})
    with pytest.raises(RunError, match=r"mf \+ ssm was not finished \(interrupted\)"):
        blend([stopped, two[1]], tastes, refit=True)
    found = blend([stopped, two[1]], tastes, weights=[1, 1])
    assert found.metrics["stopped"] == "blended"
    assert found.metrics["unfinished"] == {"interrupted": ["mf + ssm"]}
    assert blend([found, two[1]], tastes, weights=[1, 1]).metrics["unfinished"] == {
        "interrupted": ["mf + ssm"]
    }
    assert blend(two, tastes, weights=[1, 1]).metrics["unfinished"] == {}


def test_a_budget_does_not_cut_the_refit(two, tastes):
    """That of the run was spent on choosing the epoch."""
    config = two[0].config
    train = config.train.model_copy(update={"budget": 1e-9})
    hurried = replace(two[0], config=config.model_copy(update={"train": train}))
    found = blend([hurried, two[1]], tastes, weights=[1, 1], refit=True)
    free = blend(two, tastes, weights=[1, 1], refit=True)
    assert (scores(found) == scores(free)).all()


def test_new_users_are_folded_in_by_each_part_in_its_own_way(small, tastes):
    runs = [
        train_run(small(model={"name": name, "dim": 4}, train={"protocol": "fixed"}), tastes)
        for name in ("lightgcn", "mf")
    ]
    found = blend(runs, tastes, weights=[0.7, 0.3])
    train = found.train
    liked = [train.indices[train.indptr[user] : train.indptr[user + 1]] for user in range(5)]
    asked = ItemRows.of(liked, train.n_items)
    scales = [side.scale for side in found.model.sides()]
    parts = [s.users(FoldIn(run).vectors(asked)) for run, s in zip(runs, scales, strict=True)]
    torch.testing.assert_close(FoldIn(found).vectors(asked), torch.cat(parts, dim=1))


ITEM_ITEM = [{"name": "ease", "l2": 5.0}, {"name": "gfcf", "dim": 4}]


@pytest.fixture
def own(small, tastes):
    """Runs whose scores are no products of vectors."""
    return [train_run(small(model=m, train={"protocol": "valid"}), tastes) for m in ITEM_ITEM]


def test_item_item_models_add_their_standardised_scores(two, own, tastes, tmp_path):
    runs, weights = [two[0], own[0], two[1], own[1]], [4, 3, 2, 1]
    found = blend(runs, tastes, weights=weights)
    expected = sum(w / 10 * standardised(run) for run, w in zip(runs, weights, strict=True))
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    save_run(tmp_path, found, tastes.fingerprint)
    read, _ = load_run(tmp_path)
    assert (scores(read) == scores(found)).all() and read.metrics == found.metrics
    some, items = torch.tensor([7, 2]), torch.tensor([5, 0, 9])
    with torch.no_grad():
        part = read.model.vectors(some, items)
    np.testing.assert_allclose(
        part.users.scores(part.items), expected[[7, 2]][:, [5, 0, 9]], rtol=1e-4, atol=1e-5
    )


def test_the_weights_of_item_item_models_are_chosen(two, own, tastes):
    runs = [two[0], own[0]]
    found = blend(runs, tastes)
    assert found.metrics["valid"]["ndcg@5"] == pytest.approx(
        max(value((w, 1 - w), runs, tastes) for w in np.linspace(0.05, 0.95, 19)), abs=2e-3
    )
    again = blend(runs, tastes, refit=True)
    assert len(again.train) == len(tastes.train) + len(tastes.valid)
    assert again.config.model["parts"][0]["weight"] == found.config.model["parts"][0]["weight"]


def test_scores_at_hand_choose_as_those_made_anew_do(two, own, tastes, monkeypatch):
    """Where memory does not hold them they are made for each weight; also those of a blend."""
    runs = [two[0], own[0], blend([two[1], own[1]], tastes, weights=[1, 1])]
    told = []

    class Notes(Listener):
        def note(self, text):
            told.append(text)

    held = choose_weights(runs, tastes, Notes(), ["a", "b", "c"])
    count = len(told)
    monkeypatch.setattr(blend_weights, "fitting", lambda *_: 0)
    anew = choose_weights(runs, tastes, Notes(), ["a", "b", "c"])
    assert held == anew and sum(held.values()) == pytest.approx(1)
    assert told[:count] == told[count:] and len(held) > 1


def test_new_users_of_a_blend_with_an_item_item_model(two, own, tastes):
    """Those with the history of a trained user get what its part gives him, scaled alike."""
    found = blend([own[0], own[1]], tastes, weights=[0.7, 0.3])
    train = found.train
    liked = [train.indices[train.indptr[user] : train.indptr[user + 1]] for user in range(5)]
    made = FoldIn(found).vectors(ItemRows.of(liked, train.n_items))
    _, items = ranking_vectors(found.model, "dot")
    np.testing.assert_allclose(made.scores(items), scores(found)[:5], rtol=1e-4, atol=1e-6)
    nobody = FoldIn(found).vectors(ItemRows.of([np.zeros(0, np.int32)], train.n_items))
    assert not nobody.scores(items).any()


def test_a_blend_of_blends_with_item_item_models(two, own, tastes):
    inner = blend([two[0], own[0]], tastes, weights=[1, 1])
    found = blend([inner, own[1]], tastes, weights=[0.6, 0.4])
    expected = 0.6 * standardised(inner) + 0.4 * standardised(own[1])
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    train = found.train
    liked = [train.indices[train.indptr[user] : train.indptr[user + 1]] for user in range(3)]
    assert len(FoldIn(found).vectors(ItemRows.of(liked, train.n_items))) == 3


def test_what_needs_vectors_is_refused(two, own, tastes, tmp_path):
    save_run(tmp_path / "mixed", blend([two[1], own[0]], tastes, weights=[1, 1]), "")
    save_run(tmp_path / "alone", blend(own, tastes, weights=[1, 1]), "")
    save_run(tmp_path / "nested", nested(two, own, tastes), "")
    inner, mixed, alone = (
        ssmrec.Recommender.load(tmp_path / name) for name in ("nested", "mixed", "alone")
    )
    assert mixed.similar([100], k=3).height == 3  # by the vectors of svd
    for one in (mixed, alone):
        assert one.recommend([100], k=3).height == 3
        with pytest.raises(ConfigError, match="no vectors to export"):
            vectors_of(one.ranker())
    assert inner.similar([100], k=3).height == 3
    like = alone.similar([100], k=3)
    rows = HistoryRows(np.array([0, 1]), np.array([0], dtype=np.int32), tastes.train.n_items)
    assert tastes.train.items.ids[0] == 100
    found = sum(
        float(part.factors.mean()) * rows.scores(part.items)[0]
        for part in alone.trained_.model.vectors().users.beside
    )
    found[0] = -torch.inf
    assert like["similar"].to_list() == tastes.train.items.decode(found.topk(3).indices).to_list()


def nested(two, own, tastes):
    """A blend whose vectors and item-item weights come from a blend and a run beside it."""
    return blend([blend([two[1], own[0]], tastes, weights=[1, 1]), two[0]], tastes, weights=[1, 1])


def test_similar_items_of_nested_blends_go_by_all_vectors(two, own, tastes):
    _, items = ranking_vectors(nested(two, own, tastes).model, "dot")
    assert items.shape[1] == MF["dim"] + SVD["dim"]
    known = torch.from_numpy(tastes.train.item_degrees > 0)
    for part in items[known].split([SVD["dim"], MF["dim"]], dim=1):  # each counts by its weight
        assert part.square().sum(1).mean() == pytest.approx(0.5)


def test_scores_that_are_alike_but_for_rounding_count_as_none():
    items = torch.ones(5, 3) * 0.1
    rows = HistoryRows(np.array([0, 3]), np.arange(3, dtype=np.int32), 3)
    table = items + torch.tensor([0, 1e-8, 0, 0, 0])[:, None]
    known = torch.ones(5, dtype=torch.bool)
    assert ScoreScale(1.0, table, known).spread(rows).tolist() == [0.0]
    users = torch.ones(1, 3)
    assert not VectorScale.of(table, known, 1.0).users(users).any()


def test_weights_may_lie_far_apart(two, tastes):
    for weights in ([1, 1e-9], [1e308, 1e308]):
        parts = blend(two, tastes, weights=weights).config.model["parts"]
        assert all(part["weight"] > 0 for part in parts)
