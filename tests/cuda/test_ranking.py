"""Lists, metrics, corrections and answers from vectors on the device are those of the same vectors on a CPU."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from cuda_device import DEVICE, needs_device, settings
from ssmrec.analysis import Effort, Run, analyze
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import DataError
from ssmrec.evaluation import evaluate
from ssmrec.models import MODELS
from ssmrec.ranking import top_k
from ssmrec.ranking.corrections import CORRECTIONS, corrected_vectors
from ssmrec.ranking.topk import ItemRows
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.recommender import Recommender
from ssmrec.serving import Live
from ssmrec.training import load_run, save_run, train_run

pytestmark = needs_device


def masked(mask: np.ndarray) -> Interactions:
    sides = [Vocabulary(pl.Series(range(size), dtype=pl.Int64)) for size in mask.shape]
    return Interactions.from_pairs(*np.nonzero(mask), *sides)


def both(users, items, k, **more):
    """The lists on a CPU and on the device."""
    return top_k(users, items, k, **more), top_k(users.to(DEVICE), items.to(DEVICE), k, **more)


@pytest.mark.parametrize("shape", [(1, 5), (37, 60), (500, 3001)])
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("filtered", [False, True])
def test_lists_with_many_ties_are_equal(shape, k, filtered):
    """Products of small whole numbers are exact, so that ids and scores are the same bits."""
    random = np.random.default_rng(k)
    users, items = (
        torch.from_numpy(random.integers(-2, 3, (size, 4)).astype(np.float32)) for size in shape
    )
    more = {}
    if filtered:
        more["seen"] = [masked(random.random(shape) < share) for share in (0.4, 0.05)]
        more["allowed"] = random.random(shape[1]) < 0.7
    for block in (None, 16):
        cpu, other = both(users, items, k, block=block, **more)
        np.testing.assert_array_equal(other.ids, cpu.ids)
        np.testing.assert_array_equal(other.scores, cpu.scores)


def test_candidates_and_chosen_users_are_equal():
    random = np.random.default_rng(0)
    users, items = (torch.from_numpy(random.integers(-2, 3, (n, 4))).float() for n in (6, 50))
    index = np.array([5, 0, 5, 3, 17, 2])
    only = ItemRows.of(
        [random.choice(50, size, replace=False) for size in range(20)], 50
    )  # user 0 has no candidate
    cpu, other = both(users, items, 7, only=only, user_index=index)
    np.testing.assert_array_equal(other.ids, cpu.ids)
    np.testing.assert_array_equal(other.scores, cpu.scores)
    assert (other.ids[1] == -1).all()


def test_scores_of_any_vectors_are_near_and_in_order():
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 64, generator=random) for n in (200, 5000))
    cpu, other = both(users, items, 50)
    np.testing.assert_allclose(other.scores, cpu.scores, rtol=1e-5, atol=1e-4)
    exact = (users.double() @ items.double().T).numpy()
    own = np.take_along_axis(exact, other.ids.astype(np.int64), 1)
    np.testing.assert_allclose(own, other.scores, rtol=1e-5, atol=1e-4)
    assert (cpu.ids == other.ids).mean() > 0.999


def test_a_score_that_is_no_number_is_an_error():
    users = torch.ones(3, 2, device=DEVICE)
    users[1] = torch.nan
    with pytest.raises(DataError, match="scores of 1 rows are not a number"):
        top_k(users, torch.ones(40, 2, device=DEVICE), 3)


@pytest.fixture(scope="module")
def runs(pairs):
    """`runs(name)`: a quick run on the device."""
    made = {}

    def of(name: str):
        if name not in made:
            config = settings(
                DEVICE, model={"name": name}, train={"protocol": "valid", "epochs": 3}
            )
            made[name] = train_run(config, pairs)
        return made[name]

    return of


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_metrics_and_lists_are_those_of_the_cpu(pairs, runs, name, tmp_path):
    run = runs(name)
    similarity = run.config.ranking.similarity
    vectors = ranking_vectors(run.model, similarity)
    assert {side.device.type for side in vectors} == {DEVICE}
    names, seen = run.config.evaluation.names, [run.train, run.seen]
    allowed = run.train.item_degrees > 0
    found = [
        evaluate(*(side.to(place) for side in vectors), pairs.test, seen, names, allowed=allowed)
        for place in (DEVICE, "cpu")
    ]
    assert run.metrics["test"] == found[0].values
    assert found[0].values == pytest.approx(found[1].values, abs=5e-3)
    assert found[0].counts == found[1].counts
    save_run(tmp_path / "run", run, "")
    loaded, _ = load_run(tmp_path / "run")
    assert {tensor.device.type for tensor in loaded.model.state_dict().values()} == {"cpu"}
    for mine, other in zip(vectors, ranking_vectors(loaded.model, similarity), strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=1e-5)
    rankers = [Recommender.of(one).ranker() for one in (run, loaded)]
    frames = [ranker.recommend(None, ranker.choice(10)) for ranker in rankers]
    assert len(frames[0]) == len(frames[1])
    scores = [frame["score"].to_numpy() for frame in frames]
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
    similar = [ranker.similar([int(run.train.indices[0])], 5) for ranker in rankers]
    np.testing.assert_allclose(*(frame["score"].to_numpy() for frame in similar), atol=1e-5)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_corrections(runs, correction, tmp_path):
    run = runs("lightgcn")
    save_run(tmp_path / "run", run, "")
    loaded, _ = load_run(tmp_path / "run")
    found, right = (
        corrected_vectors(one.model, one.train, "cosine", correction) for one in (run, loaded)
    )
    for mine, other in zip(found, right, strict=True):
        assert mine.device.type == DEVICE
        apart = (mine.cpu() - other).norm() / other.norm()
        assert apart < 0.02, float(apart)  # a node between two clusters of dap may change sides


SERVED = ["mf", "lightgcn", "lightgcnpp", "svdpp", "simplex", "ngcf", "uipcmf"]


@pytest.mark.parametrize("name", SERVED)
def test_answers_for_new_users(pairs, name, tmp_path):
    run = train_run(settings(DEVICE, model={"name": name}), pairs)
    save_run(tmp_path / "run", run, "")
    liked = [pairs.train.items.ids[[0, 3, 5]], pairs.train.items.ids[[7]]]
    answers = []
    for live in (Live.load(tmp_path / "run"), Live.of(run)):
        frame, missing = live.fold_in(liked, live.ranker.choice(5))
        answers.append((live.folding.how, missing, frame["score"].to_numpy()))
    assert answers[0][:2] == answers[1][:2]
    np.testing.assert_allclose(answers[0][2], answers[1][2], rtol=1e-4, atol=1e-5)


def test_an_analysis_with_the_training_repeated_on_the_device(pairs):
    run = Run(train_run(settings(DEVICE, model={"name": "lightgcn"}), pairs), pairs.test)
    effort = Effort(rows=100, users=30, theory_users=5, pairs=100, nodes=30)
    result = analyze(run, groups=3, k=5, effort=effort, over_training=True)
    training = result["training"]
    assert [point["epoch"] for point in training["points"]] == [0, 1, 2]
    assert training["difference"] == 0  # equal seeds, equal bits
    assert training["points"][-1]["ndcg"] == run.trained.metrics["test"]["ndcg@5"]


@pytest.mark.parametrize(
    "name", [name for name, cls in MODELS.items() if cls.closed_form and name != "blend"]
)
def test_models_in_closed_form_are_solved_on_the_cpu(pairs, name):
    if name == "ials":
        pytest.importorskip("implicit", reason="implicit is not installed")
    one, other = (
        train_run(settings(place, model={"name": name}), pairs) for place in ("cpu", DEVICE)
    )
    assert {tensor.device.type for tensor in other.model.state_dict().values()} == {"cpu"}
    assert one.metrics["test"] == other.metrics["test"]
