"""What happened: readers, the one table, cleaning, splits, named data sets."""

from ssmrec.data.config import DataConfig, SplitConfig
from ssmrec.data.interactions import Interactions, Split
from ssmrec.data.named import item_titles
from ssmrec.data.prepare import load, prepare
from ssmrec.data.report import statistics
from ssmrec.data.split import merge, split
from ssmrec.data.synthetic import synthetic
from ssmrec.data.vocabulary import Vocabulary

__all__ = [
    "DataConfig",
    "Interactions",
    "Split",
    "SplitConfig",
    "Vocabulary",
    "item_titles",
    "load",
    "merge",
    "prepare",
    "split",
    "statistics",
    "synthetic",
]
