"""Samplers that mix, choose from a pool, or read a file: against theory and the long way."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

import ssmrec
from ssmrec.config import build
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import evaluate, most_popular
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS, Batch, Negatives, kept
from ssmrec.testing import check_sampler, toy
from ssmrec.training.step import objective


def make(name, train, **settings):
    cls = SAMPLERS[name]
    return cls(build(cls.Config, settings, "negatives"), train)


def batch(users, items) -> Batch:
    return Batch(torch.as_tensor(users), torch.as_tensor(items))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_batch(train, size, seed=0, first=0) -> Batch:
    rows = random(seed).integers(first, len(train), size=size)
    return batch(train.rows[rows].astype(np.int64), train.indices[rows].astype(np.int64))


@pytest.mark.parametrize("exclude_known", [True, False])
def test_batteries(exclude_known):
    check_sampler(SAMPLERS["mixed"], n=20, exclude_known=exclude_known, log_q=exclude_known)
    check_sampler(SAMPLERS["dns"], n=3, pool=10, exclude_known=exclude_known)
    check_sampler(SAMPLERS["ahns"], n=2, pool=10, exclude_known=exclude_known)
    for in_batch in (True, False):
        settings = {"n": 4, "pool": 9, "in_batch": in_batch, "exclude_known": exclude_known}
        check_sampler(SAMPLERS["tron"], **settings)
    check_sampler(SAMPLERS["dns"], n=9, pool=4)  # more than there are: all of them


# --- mixed ---


def test_mixed_is_expected_as_often_as_log_q_says():
    """2000 batches of 16 with 10 uniform draws. A row's candidates are the other 15 rows and the
    10 draws; an item's mean count over them is 15 degree / pairs + 10 / items, within 4 sigma."""
    train = toy()
    sampler = make("mixed", train, n=10, exclude_known=False)
    generator, counts = random(1), np.zeros(30)
    for _ in range(2000):
        rows = generator.integers(len(train), size=16)
        users, items = (torch.from_numpy(x[rows]).long() for x in (train.rows, train.indices))
        drawn = sampler.draw(Batch(users, items), generator)
        assert drawn.ids.shape == (26,)
        use = ~drawn.mask((16, 26))[0]
        counts += np.bincount(drawn.ids[use], minlength=30)
    want = 15 * train.item_degrees / len(train) + 10 / 30
    drawn_log_q = sampler.draw(random_batch(train, 16), random()).log_q.double().exp().numpy()
    ids = sampler.draw(random_batch(train, 16), random()).ids.numpy()
    np.testing.assert_allclose(drawn_log_q, want[ids], rtol=1e-5)
    assert (np.abs(counts / 2000 - want) < 4 * np.sqrt(want / 2000)).all()


def test_mixed_with_log_q_estimates_the_sum_over_all_unknown_items():
    """exp(s - log q) over the candidates of a user, 3000 batches: within 3 % of the sum over all
    items he does not have."""
    train = toy()
    scores = torch.as_tensor(random(8).normal(size=30))
    sampler = make("mixed", train, n=8)
    generator, total = random(5), 0.0
    place = int(train.indptr[3])
    for _ in range(3000):
        rows = generator.integers(len(train), size=16)
        rows[0] = place
        users, items = (torch.from_numpy(x[rows]).long() for x in (train.rows, train.indices))
        drawn = sampler.draw(Batch(users, items), generator)
        use = ~drawn.mask((16, 24))[0]
        total += (scores[drawn.ids[use]] - drawn.log_q[use]).exp().sum().item()
    unknown = np.setdiff1d(np.arange(30), train.indices[train.indptr[3] : train.indptr[4]])
    assert total / 3000 == pytest.approx(scores[unknown].exp().sum().item(), rel=0.03)


def test_mixed_without_exclusion_leaves_out_the_rows_own_column_only():
    train = toy()
    rows = batch([1, 2], [1, 2])
    drawn = make("mixed", train, n=3, exclude_known=False, log_q=False).draw(rows, random())
    assert drawn.log_q is None and drawn.ids[:2].tolist() == [1, 2]
    want = torch.zeros(2, 5, dtype=torch.bool)
    want[0, 0] = want[1, 1] = True
    assert torch.equal(drawn.mask((2, 5)), want)


# --- choosing ---


def test_dns_keeps_the_best_of_a_pool_as_often_as_theory_says(make_interactions):
    """20 unknown items with known order. The best of 4 draws with replacement is the r-th best item
    with chance ((20 - r) / 20)^4 - ((19 - r) / 20)^4: chi-square p above 0.001, 20,000 rows."""
    mask = np.zeros((2, 22), dtype=bool)
    mask[0, :2], mask[1] = True, True
    sampler = make("dns", make_interactions(mask), pool=4, full_users="skip")
    rows = batch([0] * 20_000, [0] * 20_000)
    drawn = sampler.draw(rows, random())
    value = torch.as_tensor(random(3).permutation(22).astype(np.float32))
    columns = sampler.choose(torch.zeros(20_000), value[drawn.ids])
    found = kept(drawn, columns, None).ids[:, 0].numpy()
    order = np.argsort(-value.numpy()[2:]) + 2
    counts = np.bincount(found, minlength=22)[order]
    left = np.arange(20, -1, -1) / 20
    assert stats.chisquare(counts, 20_000 * (left[:-1] ** 4 - left[1:] ** 4)).pvalue > 0.001


def test_ahns_takes_the_score_nearest_to_its_target():
    """alpha 1, beta .5, p -2: the target is .5 / (s+ + 1): .25 for s+ = 1, .5 for 0, and far above
    all for s+ = -1, where the formula itself has no value."""
    sampler = make("ahns", toy(), alpha=1.0, beta=0.5, n=2)
    scores = torch.tensor([[0.9, 0.2, 0.55, -torch.inf]]).repeat(4, 1)
    columns = sampler.choose(torch.tensor([1.0, 0.0, -1.0, -3.0]), scores)
    assert columns.tolist() == [[1, 2], [2, 1], [0, 2], [0, 2]]


@pytest.mark.parametrize("p", [-2.0, -8.0])
def test_ahns_takes_the_hardest_below_minus_alpha_however_near_the_others(p):
    """Far targets: the scores differ by less than float32 holds at 1e5, or the target is infinite."""
    sampler = make("ahns", toy(), alpha=1.0, beta=0.1, p=p, n=2)
    scores = 0.01 * torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    scores[:, :4] = -torch.inf
    columns = sampler.choose(torch.full((200,), -1.5), scores)
    assert torch.equal(columns, scores.topk(2, dim=1).indices)


def test_ahns_gives_easier_negatives_to_a_better_positive():
    sampler = make("ahns", toy(), alpha=1.0, beta=0.3)
    scores = torch.rand(200, 32, generator=torch.Generator().manual_seed(0))
    means = []
    for positive in (-0.6, 0.0, 0.9):
        columns = sampler.choose(torch.full((200,), positive), scores)
        means.append(scores.gather(1, columns).mean().item())
    assert means[0] > means[1] > means[2]
    assert means[1] == pytest.approx(0.3, abs=0.02)  # target .3 / (0 + 1)


def test_kept_candidates_keep_their_masks():
    shared = Negatives(torch.tensor([5, 6, 7]), torch.zeros(3), torch.tensor([[0, 1], [2, 0]]))
    columns = torch.tensor([[0, 2], [0, 1]])
    found = kept(shared, columns, shared.mask((2, 3)))
    assert found.ids.tolist() == [[5, 7], [5, 6]] and found.log_q is None
    assert found.mask((2, 2)).tolist() == [[False, True], [True, False]]
    own = Negatives(torch.tensor([[5, 6, 7], [8, 9, 4]]))
    found = kept(own, columns, None)
    assert found.ids.tolist() == [[5, 7], [8, 9]] and found.masked is None


def parts(train, sampler, loss="ssm", **negatives):
    cls = MODELS["lightgcn"]
    model = cls(build(cls.Config, {"dim": 6}), train, torch.Generator().manual_seed(0))
    made = LOSSES[loss](build(LOSSES[loss].Config, {}))
    return model, made, make(sampler, train, **negatives)


@pytest.mark.parametrize("name", ["dns", "tron"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_engine_keeps_the_hardest_under_the_similarity_of_the_loss(name, similarity):
    """Loss and gradient against full vectors, sorted candidates and the plain formula."""
    train = toy()
    cls = MODELS["lightgcn"]
    model = cls(build(cls.Config, {"dim": 6}), train, torch.Generator().manual_seed(0))
    loss = LOSSES["ssm"](build(LOSSES["ssm"].Config, {"similarity": similarity}))
    sampler = make(name, train, n=3, pool=11)
    rows = random_batch(train, 8, first=train.indptr[1])  # user 0 has all items but one
    drawn = sampler.draw(rows, random(1))
    value, penalty = objective(model, loss, sampler, rows, drawn, 0.4)
    full = model.vectors()
    users, items = full.users, full.items
    if similarity == "cosine":
        users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
    scores = users[rows.users] @ items.T
    each, hardest = [], []
    for row in range(8):
        ids = drawn.ids if drawn.ids.dim() == 1 else drawn.ids[row]
        mask = drawn.mask((8, len(ids)))
        left = ids if mask is None else ids[~mask[row]]
        best = left[scores[row, left].argsort(descending=True)[:3]]
        hardest.append(best)
        logits = torch.cat([scores[row, rows.items[row]][None], scores[row, best]]) / 0.2
        each.append(logits.logsumexp(0) - logits[0])
    want = torch.stack(each).mean()
    torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(v, model.table, retain_graph=True)[0] for v in (value, want)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)
    square = model.table.detach().pow(2).sum(1)
    touched = torch.cat([rows.items, torch.cat(hardest)]) + 12
    l2 = 0.5 * 0.4 / 8 * (square[rows.users].sum() + square[touched].sum())
    torch.testing.assert_close(penalty, l2, rtol=1e-4, atol=1e-6)


def test_tron_that_keeps_its_whole_pool_is_sampled_softmax():
    train = toy()
    model, loss, tron = parts(train, "tron", n=1000, pool=40, in_batch=False)
    rows = random_batch(train, 8)
    drawn = tron.draw(rows, random(2))
    whole, _ = objective(model, loss, tron, rows, drawn, 0.0)
    uniform = make("uniform", train, n=40)
    plain, _ = objective(model, loss, uniform, rows, drawn, 0.0)
    torch.testing.assert_close(whole, plain)


# --- given ---


def given(tmp_path, train, pairs, **settings):
    path = tmp_path / "skips.csv"
    pl.DataFrame(pairs, schema=["user", "item"], orient="row").write_csv(path)
    return make("given", train, path=str(path), **settings)


def test_given_negatives_are_those_of_the_file(tmp_path, make_interactions, caplog):
    """User 100 was given 102 and 103; 101 only a train item and an unknown one; ids begin at 100."""
    train = make_interactions(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]))
    pairs = [(100, 102), (100, 103), (101, 101), (101, 999), (102, 100)]
    with caplog.at_level(logging.INFO, "ssmrec"):
        sampler = given(tmp_path, train, pairs, n=500)
    assert (
        "3 of 5 pairs are negatives; 1 have ids that are not in train, 1 are in train"
        in caplog.text
    )
    drawn = sampler.draw(batch([0, 1, 2], [0, 1, 2]), random())
    counts = np.bincount(drawn.ids[0], minlength=4)
    assert counts[:2].sum() == 0 and stats.binomtest(int(counts[2]), 500, 0.5).pvalue > 0.001
    assert set(drawn.ids[1].tolist()) == {0, 2, 3}  # uniform among what user 101 does not have
    assert set(drawn.ids[2].tolist()) == {0}
    assert drawn.masked is None
    alone = given(tmp_path, train, pairs, n=5, others="none")
    mask = alone.draw(batch([0, 1, 2], [0, 1, 2]), random()).mask((3, 5))
    assert mask.all(1).tolist() == [False, True, False]


def test_given_batteries(tmp_path):
    path = tmp_path / "skips.csv"
    pl.DataFrame({"user": [1, 2, 2], "item": [29, 29, 28]}).write_csv(path)
    for others in ("uniform", "none"):
        check_sampler(SAMPLERS["given"], path=str(path), n=3, others=others)


def test_given_reads_the_columns_that_are_named(tmp_path, make_interactions):
    train = make_interactions(np.array([[1, 0, 0], [0, 1, 0]]))
    path = tmp_path / "skips.csv"
    path.write_text("ware,kunde\n101,100\n102,100\n")
    sampler = make("given", train, path=str(path), user="kunde", item="ware", n=20)
    assert set(sampler.draw(batch([0], [0]), random()).ids[0].tolist()) == {1, 2}
    with pytest.raises(DataError, match="no column 'buyer'"):
        make("given", train, path=str(path), user="buyer", item="ware")


def test_given_pairs_that_are_one_in_train_count_once(tmp_path, make_interactions):
    """Ids of train are numbers; those of the file are text, as `x` is none: 102 and 0102 are one item."""
    train = make_interactions(np.array([[1, 0, 0], [0, 1, 0]]))
    sampler = given(tmp_path, train, [("100", "102"), ("100", "0102"), ("100", "x")], n=5)
    assert sampler.draw(batch([0], [0]), random()).ids.tolist() == [[2] * 5]


def test_given_needs_a_file_with_known_ids(tmp_path, make_interactions):
    train = make_interactions(np.eye(3))
    with pytest.raises(ConfigError, match=r"negatives\.path"):
        make("given", train)
    with pytest.raises(DataError, match="check that ids match"):
        given(tmp_path, train, [(7, 8)])
    with pytest.raises(DataError):
        make("given", train, path=str(tmp_path / "missing.csv"))


# --- through a training ---


@pytest.mark.parametrize("name", ["mixed", "dns", "ahns", "tron"])
def test_training_with_each_learns(tastes, name):
    train = {"epochs": 8, "batch_size": 128, "lr": 0.02, "threads": 1}
    loss = "bpr" if name in ("dns", "ahns") else "ssm"
    made = ssmrec.Recommender({"name": "mf", "dim": 8}, loss, name, train=train)
    made.fit(tastes.train, progress=False)
    popular = evaluate(*most_popular(tastes.train), tastes.test, [tastes.train], ["ndcg@5"])
    assert made.evaluate(tastes.test).values["ndcg@5"] > 1.5 * popular.values["ndcg@5"]
