"""What did not happen: samplers. To add one: a class in a file, and a line in `SAMPLERS`."""

from ssmrec.negatives.base import Batch, Negatives, Sampler
from ssmrec.negatives.drawn import AllItems, Popularity, Uniform
from ssmrec.negatives.in_batch import InBatch

SAMPLERS: dict[str, type[Sampler]] = {
    "in_batch": InBatch,
    "uniform": Uniform,
    "popularity": Popularity,
    "all": AllItems,
}

__all__ = [
    "SAMPLERS", "AllItems", "Batch", "InBatch", "Negatives", "Popularity", "Sampler", "Uniform",
]  # fmt: skip
