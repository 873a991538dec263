"""A training that a Python program asks for: its pairs are checked, its settings and its Ctrl-C are its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch

from ssmrec.data import Interactions, Split
from ssmrec.data.align import check_pairs, same_ids
from ssmrec.errors import DataError
from ssmrec.evaluation.metrics import contains
from ssmrec.training.protocols import Trained


def split_of(train: Interactions, valid: Interactions | None) -> Split:
    """Training and validation pairs as one split.

    Raises:
        DataError: one of them is no `Interactions`, or they have different ids or a pair in common.
    """
    check_pairs(train, "train")
    if valid is not None:
        check_pairs(valid, "valid")
        if not same_ids(train, valid):
            raise DataError(
                "train and valid have different user or item ids: take both from one table with "
                "ssmrec.split, or from files with ssmrec.prepare"
            )
        if common := int(contains(train, valid.rows, valid.indices).sum()):
            raise DataError(
                f"{common:,} of the {len(valid):,} pairs of valid are in train too: hold them out of train, as "
                "ssmrec.split does"
            )
    return Split(train, valid, None, "given")


@contextmanager
def own_settings() -> Iterator[None]:
    """float32 and gradients, whatever the caller has set; that, and numbers of threads, are put back."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    compiled = numba.get_num_threads()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        numba.set_num_threads(compiled)


@contextmanager
def undisturbed() -> Iterator[None]:
    """As `own_settings`; a Ctrl-C that ends all says that nothing is kept."""
    with own_settings():
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(NOTHING) from None


NOTHING = "nothing of this training is kept"


def kept(trained: Trained) -> str:
    """What an interrupted training leaves, in words; empty where that is only the model's start."""
    metrics = trained.metrics
    if "candidates" in metrics:
        return f"kept: the best of {len(metrics['candidates'])} models"
    if not metrics["epochs"]:
        return ""
    epochs = f"{metrics['epochs']} epoch{'s' if metrics['epochs'] > 1 else ''}"
    chosen = metrics["selected_on"] == "valid"
    return f"kept: the best of {epochs}" if chosen else f"kept: the model after {epochs}"
