"""What did not happen: samplers. To add one: a class in a file, and a line in `SAMPLERS`."""

from ssmrec.negatives.base import Batch, Negatives, Sampler, kept, known_mask
from ssmrec.negatives.drawn import AllItems, Popularity, Uniform
from ssmrec.negatives.given import Given
from ssmrec.negatives.hard import AHNS, DNS
from ssmrec.negatives.in_batch import InBatch
from ssmrec.negatives.mixed import TRON, Mixed
from ssmrec.negatives.mixgcf import MixGCF

SAMPLERS: dict[str, type[Sampler]] = {
    "in_batch": InBatch,
    "uniform": Uniform,
    "popularity": Popularity,
    "all": AllItems,
    "mixed": Mixed,
    "dns": DNS,
    "ahns": AHNS,
    "tron": TRON,
    "mixgcf": MixGCF,
    "given": Given,
}

__all__ = [
    "AHNS", "DNS", "SAMPLERS", "TRON", "AllItems", "Batch", "Given", "InBatch", "MixGCF", "Mixed", "Negatives",
    "Popularity", "Sampler", "Uniform", "kept", "known_mask",
]  # fmt: skip
