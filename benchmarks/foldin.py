"""Quality of fold-in: users held out of training, folded in from their items, against trained users.

    python -m benchmarks.foldin --model mf --epochs 20

A share of the users is taken out of the training pairs. The model never sees them; each is then folded
in from his training items and judged on his test items, like any other user. Beside it: the same users
when the model did train on them, and the most popular items.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.harness import published
from ssmrec.config import read_recipe
from ssmrec.data import Interactions, Split
from ssmrec.evaluation import evaluate, most_popular
from ssmrec.losses import prepare as prepared
from ssmrec.ranking import ItemRows
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.serving.foldin import FoldIn, _sums, ridge
from ssmrec.training import Trained, resolve, train_run

NAMES = ["recall@20", "ndcg@20"]
RECIPES = {"mf": "online-retail-mf-bpr", "lightgcn": "online-retail-lightgcn-ssm"}
SSM_MF = {"loss": {"name": "ssm", "temperature": 0.15}, "negatives": {"name": "auto"}}


def rows_of(pairs: Interactions, users: np.ndarray) -> ItemRows:
    bounds = pairs.indptr
    return ItemRows.of([pairs.indices[bounds[u] : bounds[u + 1]] for u in users], pairs.n_items)


def without(pairs: Interactions, users: np.ndarray) -> Interactions:
    return pairs.take(~np.isin(pairs.rows, users))


def only(pairs: Interactions, users: np.ndarray) -> Interactions:
    return pairs.take(np.isin(pairs.rows, users))


def fit(model: str, epochs: int | None, train: Interactions) -> Trained:
    values = read_recipe(RECIPES.get(model.partition("-")[0], RECIPES["mf"]))
    values = {**values, **(SSM_MF if model == "mf-ssm" else {})}
    if model not in ("mf", "mf-ssm", "lightgcn"):
        values["model"] = {"name": model}
        values |= SSM_MF
    if epochs is not None:
        values["train"] = {**values["train"], "epochs": epochs}
    return train_run(resolve(values), Split(train, None, None, "given"))


def variants(trained: Trained) -> dict[str, Callable[[ItemRows], object]]:
    """The product's way first, then the ways it was chosen from."""
    fold = FoldIn(trained)
    similarity = fold.similarity
    found: dict[str, Callable[[ItemRows], object]] = {f"fold-in ({fold.how})": fold.vectors}
    items = ranking_vectors(trained.model, similarity)[1]
    if fold.how == "history":
        return found
    known = items * torch.from_numpy(trained.train.item_degrees > 0)[:, None]
    found["mean of item vectors"] = lambda liked: prepared(_sums(liked, known, 1.0), similarity)
    for l2 in (0.01, 0.1, 1.0):
        for unseen in (0.0, 1.0, 10.0, 100.0):
            solve = ridge(known, l2, unseen)
            name = f"ridge l2={l2:g} unseen={unseen:g}"
            found[name] = lambda liked, solve=solve: prepared(solve(liked), similarity)
    if fold.how == "propagation" and hasattr(trained.model, "layer_weights"):
        users = trained.train.user_degrees > 0
        mean = trained.model.table[: trained.train.n_users][users].mean(0).detach()
        weight = trained.model.layer_weights[0]
        raw = fold._rows
        found["propagation, mean ego row"] = lambda liked: prepared(
            raw(liked) + weight * mean, similarity
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="online-retail")
    parser.add_argument("--model", default="mf", help="mf, mf-ssm, lightgcn, ngcf, ease ...")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--share", type=float, default=0.2, help="of the users, held out")
    parser.add_argument("--upper", action="store_true", help="also train on everybody")
    asked = parser.parse_args()
    train, given = published(asked.data)
    active = np.flatnonzero((train.user_degrees > 0) & (given.user_degrees > 0))
    users = np.sort(np.random.default_rng(0).choice(active, int(asked.share * len(active)), False))
    halves = [only(given, users[half::2]) for half in (0, 1)]
    test = only(given, users)
    print(f"{asked.model}: {len(users)} of {len(active)} users held out, {len(test)} test pairs")
    trained = fit(asked.model, asked.epochs, without(train, users))
    allowed = trained.train.item_degrees > 0
    liked = rows_of(train, users)
    liked = ItemRows.of(
        [row[allowed[row]] for row in np.split(liked.indices, liked.indptr[1:-1])], liked.n_items
    )
    table: dict[str, dict[str, float]] = {}
    for name, method in variants(trained).items():
        table[name] = judged(method(liked), users, trained, train, halves, allowed)
    popular = most_popular(trained.train)
    table["most popular"] = measured(*popular, halves, train, allowed)
    if asked.upper:
        whole = fit(asked.model, asked.epochs, train)
        vectors = ranking_vectors(whole.model, whole.config.ranking.similarity)
        name = "trained on these users as well"
        table[name] = measured(*vectors, halves, train, train.item_degrees > 0)
    for name, values in table.items():
        print(f"{name:34s}" + "".join(f"  {key} {value:.4f}" for key, value in values.items()))


def measured(rows, items, halves, known, allowed) -> dict[str, float]:
    """Metrics on the half of the users that chose the settings of ridge, and on the other one."""
    found = {}
    for name, test in zip(("choose", "report"), halves, strict=True):
        values = evaluate(rows, items, test, [known], NAMES, allowed=allowed).values
        found |= {f"{name} {key}": value for key, value in values.items()}
    return found


def judged(vectors, users, trained, known, halves, allowed) -> dict[str, float]:
    """Metrics of folded-in users, by the evaluation path."""
    rows, items = ranking_vectors(trained.model, trained.config.ranking.similarity)
    if isinstance(rows, torch.Tensor):
        rows = rows.clone()
        rows[torch.from_numpy(users)] = vectors
    else:
        rows = type(rows)(known.indptr, known.indices, known.n_items)
    return measured(rows, items, halves, known, allowed)


if __name__ == "__main__":
    main()
