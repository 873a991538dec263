"""How wrong: one value a row. To add a loss: a class in a file, and a line in `LOSSES`."""

from ssmrec.losses.base import Loss, LossConfig, Similarity, corrected, prepare
from ssmrec.losses.pairwise import BCE, BPR
from ssmrec.losses.ssm import SampledSoftmax, Softmax

LOSSES: dict[str, type[Loss]] = {
    "ssm": SampledSoftmax,
    "softmax": Softmax,
    "bpr": BPR,
    "bce": BCE,
}

__all__ = [
    "BCE", "BPR", "LOSSES", "Loss", "LossConfig", "SampledSoftmax", "Similarity", "Softmax",
    "corrected", "prepare",
]  # fmt: skip
