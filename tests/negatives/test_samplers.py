"""Samplers: distributions, exclusion, log expected counts; the public battery on all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from ssmrec.config import build
from ssmrec.errors import ConfigError, DataError
from ssmrec.losses import SampledSoftmax
from ssmrec.negatives import SAMPLERS, Batch, Negatives, base
from ssmrec.testing import check_sampler


def make(name, train, **settings):
    cls = SAMPLERS[name]
    return cls(build(cls.Config, settings, "negatives"), train)


def batch(users, items) -> Batch:
    return Batch(torch.as_tensor(users), torch.as_tensor(items))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "given"])  # needs a file
def test_battery_with_defaults(name):
    check_sampler(SAMPLERS[name])


@pytest.mark.parametrize("name", ["uniform", "popularity"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("exclude_known", [True, False])
def test_battery_of_drawn(name, shared, exclude_known):
    settings = {"n": 20, "shared": shared, "exclude_known": exclude_known, "log_q": True}
    check_sampler(SAMPLERS[name], **settings)


def test_battery_of_the_others():
    check_sampler(SAMPLERS["in_batch"], exclude_known=True, log_q=True)
    check_sampler(SAMPLERS["all"], exclude_known=True)
    check_sampler(SAMPLERS["popularity"], n=8, beta=0.5, shared=False)


@pytest.fixture
def counts_90_9_1(make_interactions):
    """100 users with one item each; item degrees 90, 9, 1."""
    mask = np.zeros((100, 3), dtype=bool)
    mask[np.arange(100), np.repeat([0, 1, 2], [90, 9, 1])] = True
    return make_interactions(mask)


@pytest.mark.parametrize(
    ("name", "extra", "shares"),
    [
        ("uniform", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("popularity", {}, [0.90, 0.09, 0.01]),
        ("popularity", {"beta": 0.0}, [1 / 3, 1 / 3, 1 / 3]),
        ("popularity", {"beta": 0.5}, np.sqrt([90, 9, 1]) / np.sqrt([90, 9, 1]).sum()),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_case_18_shares(counts_90_9_1, name, extra, shares, shared):
    """30,000 draws: every share within 0.02; chi-square p above 0.001 for the fixed seed."""
    settings = {"n": 30_000, "shared": shared, "exclude_known": False, "log_q": True, **extra}
    drawn = make(name, counts_90_9_1, **settings).draw(batch([0], [0]), random())
    counts = np.bincount(drawn.ids.reshape(-1), minlength=3)
    np.testing.assert_allclose(counts / 30_000, shares, atol=0.02)
    assert stats.chisquare(counts, 30_000 * np.asarray(shares)).pvalue > 0.001
    expected = torch.as_tensor(30_000 * np.asarray(shares), dtype=torch.float32)
    torch.testing.assert_close(drawn.log_q.exp(), expected[drawn.ids], rtol=1e-4, atol=0)


def test_case_16_a_user_with_everything(make_interactions):
    full = make_interactions(np.ones((2, 3)))
    for name in ("uniform", "popularity"):
        with pytest.raises(
            DataError, match=r"2 user\(s\) have every .*: 100, 101; .*full_users=skip"
        ):
            make(name, full)
        for shared in (True, False):
            settings = {"n": 5, "full_users": "skip", "shared": shared, "log_q": True}
            sampler = make(name, full, **settings)
            drawn = sampler.draw(batch([0] * 1000, [1] * 1000), random())
            assert drawn.mask((1000, 5)).all()  # ends, and no draw counts
            assert drawn.log_q.isfinite().all()


@pytest.mark.parametrize("name", ["uniform", "popularity"])
def test_case_17_the_whole_history_is_excluded(make_interactions, name):
    """1000 items, history 0..899; the unknown 100 get all 10,000 draws (and a few failed ones)."""
    mask = np.zeros((2, 1000), dtype=bool)
    mask[0, :900], mask[1, 900:] = True, True
    sampler = make(name, make_interactions(mask), n=10_000, shared=False)
    drawn = sampler.draw(batch([0], [3]), random())
    counted = drawn.ids[0]
    if drawn.masked is not None:
        counted = counted[~drawn.mask((1, 10_000))[0]]
    assert counted.min() >= 900
    # uniform finds an unknown item directly; popularity gives up with chance 0.9^16 = 0.185
    share = 1 if name == "uniform" else 1 - 0.9**16
    assert len(counted) / 10_000 == pytest.approx(share, abs=0 if name == "uniform" else 0.015)


def test_log_q_counts_the_draws_that_are_given_up(make_interactions):
    """Known mass 0.9: in 16 tries item j is counted N p_j (1 - 0.9^16) / 0.1 times.

    A failed draw keeps a finite log q although its stand-in, item 0, has no user.
    """
    mask = np.zeros((2, 1001), dtype=bool)
    mask[0, 1:901], mask[1, 901:] = True, True
    sampler = make("popularity", make_interactions(mask), n=10_000, shared=False, log_q=True)
    drawn = sampler.draw(batch([0], [3]), random())
    use = ~drawn.mask((1, 10_000))
    assert not use.all()
    assert drawn.log_q.isfinite().all()
    want = np.log(10_000 * 0.001 * (1 - 0.9**16) / 0.1)
    torch.testing.assert_close(drawn.log_q[use], torch.full((int(use.sum()),), want).float())
    # the sum of exp(-log q) over counted draws estimates the number of unknown items, 100
    assert (-drawn.log_q[use]).exp().sum().item() == pytest.approx(100, rel=0.02)


def test_log_q_of_uniform_draws_among_unknown_items(make_interactions):
    """A user with 18 of 20 items: each draw is one of 2, so the expected count is N / 2, exactly."""
    mask = np.ones((1, 20), dtype=bool)
    mask[0, [4, 11]] = False
    sampler = make("uniform", make_interactions(mask), n=10, shared=False, log_q=True)
    drawn = sampler.draw(batch([0], [0]), random())
    assert set(drawn.ids[0].tolist()) == {4, 11}
    torch.testing.assert_close(drawn.log_q.exp(), torch.full((1, 10), 5.0))


def test_no_draw_beyond_the_last_popular_item(make_interactions):
    """Rounding must not let a uniform number just below 1 fall on an item nobody has."""
    mask = np.zeros((7, 12), dtype=bool)
    mask[:, :10] = np.tri(7, 10, 3)
    sampler = make("popularity", make_interactions(mask), n=1, beta=0.3)
    assert sampler.cumulative[9] == 1.0
    assert sampler._pick(np.array([np.nextafter(1.0, 0)])) == 9


def test_shared_candidates_mask_the_history_of_each_row(make_interactions):
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    drawn = make("uniform", make_interactions(mask), n=50).draw(batch([0, 1], [0, 2]), random())
    dense = drawn.mask((2, 50))
    assert torch.equal(dense[0], drawn.ids < 2)
    assert torch.equal(dense[1], drawn.ids == 2)


def test_a_table_of_known_items_is_made_at_the_first_draw(make_interactions, monkeypatch):
    """Not when a smaller batch comes, in the midst of a recording on the GPU."""
    monkeypatch.setattr(base, "LARGEST", 3)
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    sampler = make("in_batch", make_interactions(mask), exclude_known=True)
    sampler.device = torch.device("cpu")
    sought = sampler.draw(batch([0, 1], [1, 2]), random())
    assert sought.known is None and sought.masked.tolist() == [[0, 1], [0, 1]]
    table = vars(sampler)["_known"]
    one = sampler.draw(batch([0], [1]), random())
    assert one.masked is None and one.known is table
    assert one.looked_up(torch.tensor([0]), torch.tensor([1])).masked.tolist() == [[True]]


def test_in_batch_masks_and_counts(make_interactions):
    """Degrees 2, 1, 1, total 4. Expected counts for B = 3: 2 * degree / 4."""
    train = make_interactions(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]]))
    rows = batch([0, 1, 2], [1, 0, 2])
    plain = make("in_batch", train).draw(rows, random())
    assert plain.ids is None and plain.log_q is None and plain.masked is None
    assert torch.equal(plain.mask((3, 3)), torch.eye(3, dtype=torch.bool))
    drawn = make("in_batch", train, exclude_known=True, log_q=True).draw(rows, random())
    torch.testing.assert_close(drawn.log_q.exp(), torch.tensor([0.5, 1.0, 0.5]))
    want = torch.eye(3, dtype=torch.bool)
    want[0, 1] = True  # user 0 has item 0, the positive of row 1
    assert torch.equal(drawn.mask((3, 3)), want)


def test_case_14_a_repeated_item_is_masked_for_its_own_rows_only(make_interactions):
    """Batch (u0, a), (u1, a), (u2, c): a's second column is no negative of rows 0 and 1."""
    train = make_interactions(np.array([[1, 0], [1, 0], [0, 1]]))
    drawn = make("in_batch", train, exclude_known=True).draw(batch([0, 1, 2], [0, 0, 1]), random())
    want = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert torch.equal(drawn.mask((3, 3)), want)


def test_all_items_leave_out_the_positive_or_the_history(make_interactions):
    train = make_interactions(np.array([[1, 1, 0], [0, 0, 1]]))
    rows = batch([0, 1], [1, 2])
    drawn = make("all", train).draw(rows, random())
    assert drawn.ids.tolist() == [0, 1, 2]
    assert drawn.mask((2, 3)).tolist() == [[False, True, False], [False, False, True]]
    drawn = make("all", train, exclude_known=True).draw(rows, random())
    assert drawn.mask((2, 3)).tolist() == [[True, True, False], [False, False, True]]


def test_failed_draws_are_masked():
    drawn = Negatives(torch.zeros(2, 3, dtype=torch.int64), None, torch.tensor([[0, 1], [2, 0]]))
    assert drawn.mask((2, 3)).tolist() == [[False, False, True], [True, False, False]]
    assert Negatives(torch.zeros(3, dtype=torch.int64)).mask((2, 3)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n": 0}, "negatives.n"), ({"betta": 1}, "did you mean 'negatives.beta'")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(SAMPLERS["popularity"].Config, settings, "negatives")


# --- what log q is for ---


@pytest.fixture
def skewed(make_interactions):
    """User 0 has item 12 only; 400 others make item i about 30 / (i + 1) times as popular."""
    mask = np.zeros((401, 25), dtype=bool)
    has = random(4).random((400, 25)) < 0.9 / (np.arange(25) + 1)
    has[0], has[1] = np.arange(25) % 2 == 0, np.arange(25) % 2 == 1  # every item occurs
    mask[1:], mask[0, 12] = has, True
    return make_interactions(mask)


SCORES = np.random.default_rng(8).normal(size=25)


def sampled_loss(sampler, seed: int) -> tuple[float, np.ndarray]:
    """SSM of user 0 and item 12 with the sampler's draw; pull on each item, summed over draws."""
    drawn = sampler.draw(batch([0], [12]), random(seed))
    ids = drawn.ids.reshape(-1)
    scores = torch.as_tensor(SCORES, dtype=torch.float32)
    logits = scores[ids][None, :].requires_grad_()
    loss = SampledSoftmax(SampledSoftmax.Config())
    value = loss(scores[12:13], logits, drawn.log_q, drawn.mask((1, len(ids))))
    value.sum().backward()
    return value.item(), np.bincount(ids, logits.grad[0].double().numpy(), minlength=25)


def full_softmax() -> tuple[float, np.ndarray]:
    e = np.exp(SCORES)
    pull = e / e.sum()
    return -np.log(pull[12]), np.where(np.arange(25) == 12, 0, pull)


@pytest.mark.parametrize(
    ("name", "shared"),
    [("popularity", True), ("popularity", False), ("uniform", True), ("uniform", False)],
)
def test_with_log_q_the_sampled_loss_approaches_full_softmax(skewed, name, shared):
    """Mean of 20 draws. The error shrinks with N, and is below 0.01 for N = 20,000."""
    value, pull = full_softmax()
    errors = []
    for n in (5, 20_000):
        sampler = make(name, skewed, n=n, shared=shared, log_q=True)
        found = [sampled_loss(sampler, seed) for seed in range(20)]
        errors.append(abs(np.mean([loss for loss, _ in found]) - value))
    assert errors[1] < 0.01 and errors[1] < errors[0]
    assert np.abs(np.mean([pulls for _, pulls in found], axis=0) - pull).sum() < 0.02


def test_without_log_q_it_does_not(skewed):
    """Uncorrected popularity draws pull on popular items instead."""
    sampler = make("popularity", skewed, n=20_000, log_q=False)
    value, pull = sampled_loss(sampler, 0)
    want, full = full_softmax()
    assert value > want + 5  # grows like log N
    assert np.abs(pull / pull.sum() - full / full.sum()).sum() > 0.2


def test_log_q_of_in_batch_estimates_the_whole_denominator(skewed):
    """exp(s - log q) summed over the other rows is an unbiased estimate of the sum over all items
    but the masked positive: 3000 batches of 32, within 2 %; uncorrected it is off by far."""
    users, items = torch.from_numpy(skewed.rows).long(), torch.from_numpy(skewed.indices).long()
    place = int(np.flatnonzero(skewed.rows == 0)[0])
    sampler = make("in_batch", skewed, exclude_known=True, log_q=True)
    generator, scores = random(5), torch.as_tensor(SCORES)
    sums = np.zeros(2)
    for _ in range(3000):
        pick = generator.integers(len(skewed), size=32)
        pick[0] = place
        drawn = sampler.draw(Batch(users[pick], items[pick]), generator)
        use = ~drawn.mask((32, 32))[0]
        logits = scores[items[pick]][use]
        sums += [(logits - drawn.log_q[use]).exp().sum(), logits.exp().sum() * 25 / 31]
    corrected, uncorrected = sums / 3000
    want = np.exp(np.delete(SCORES, 12)).sum()
    assert corrected == pytest.approx(want, rel=0.02)
    assert abs(uncorrected / want - 1) > 0.1
