"""A run ready to answer: all that does not depend on the question is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from ssmrec.errors import DataError
from ssmrec.ranking import Choice, ItemRows, Ranker, recommend_frame, top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.serving.foldin import FoldIn
from ssmrec.training import Trained, load_run


@dataclass(frozen=True)
class Live:
    """One trained model behind every kind of answer.

    Args:
        trained: model, pairs and settings.
        ranker: its vectors, ready to rank.
        fingerprint: that of the data it was trained on.
    """

    trained: Trained
    ranker: Ranker
    fingerprint: str = ""

    @classmethod
    def load(cls, folder: str | Path) -> Live:
        """Read a run folder.

        Raises:
            RunError: not a finished run, or damaged.
        """
        return cls.of(*load_run(Path(folder)))

    @classmethod
    def of(cls, trained: Trained, fingerprint: str = "") -> Live:
        """From a training in memory; its model is moved to the CPU, where answers are made."""
        trained.model.cpu()
        vectors = ranking_vectors(trained.model, trained.config.ranking.similarity)  # type: ignore[arg-type]
        return cls(trained, Ranker(*vectors, trained.train, trained.seen), fingerprint)

    @cached_property
    def folding(self) -> FoldIn:
        """Vectors of new users."""
        return FoldIn(self.trained)

    def fold_in(
        self, liked: Sequence[pl.Series], choice: Choice
    ) -> tuple[pl.DataFrame, list[list[int | str]]]:
        """Lists for new users, from the items each of them liked; those are left out of the lists.

        Args:
            liked: external item ids of each user.
            choice: the filters; `only` does not apply, as new users have no candidates.

        Returns:
            Columns user (0, 1, ... in the order given), rank (from 1), item, score; and for each user
            the items the model does not know, which count for nothing.

        Raises:
            DataError: a user without any known item: nothing tells his taste.
        """
        found = [self.ranker.find_items(ids) for ids in liked]
        missing = [
            ids.filter(pl.Series(at < 0)).to_list() for ids, at in zip(liked, found, strict=True)
        ]
        for number, (ids, at) in enumerate(zip(liked, found, strict=True)):
            if not (at >= 0).any():
                some = self.ranker.train.items.ids.filter(pl.Series(self.ranker.known_items))[:2]
                raise DataError(
                    f"new user {number}: none of the {ids.n_unique()} items was trained on, so nothing tells "
                    f"the taste; name items the model knows, such as {', '.join(map(str, some))}"
                )
        rows = ItemRows.of([np.unique(at[at >= 0]) for at in found], self.ranker.train.n_items)
        lists = top_k(
            self.folding.vectors(rows), self.ranker.items, choice.k,
            seen=[] if choice.include_seen else [rows], allowed=choice.allowed,
        )  # fmt: skip
        users = pl.Series(np.arange(len(liked)))
        return recommend_frame(lists, users, self.ranker.train.items), missing
