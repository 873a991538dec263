"""Backbones: from indices to vectors. To add one: a class in a file, and a line in `MODELS`."""

from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.graph import Graph
from ssmrec.models.lightgcn import LightGCN, PropagatedBackbone, SVDpp
from ssmrec.models.mf import MF

MODELS: dict[str, type[Backbone]] = {"mf": MF, "svdpp": SVDpp, "lightgcn": LightGCN}

__all__ = [
    "MF",
    "MODELS",
    "Backbone",
    "Graph",
    "LightGCN",
    "PropagatedBackbone",
    "SVDpp",
    "Vectors",
]
