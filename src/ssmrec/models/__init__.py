"""Backbones: from indices to vectors. To add one: a class in a file, and a line in `MODELS`."""

from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.blend import Blend
from ssmrec.models.closed import EASE, GFCF, IALS
from ssmrec.models.contrastive import SGL, SimGCL, XSimGCL
from ssmrec.models.graph import Graph
from ssmrec.models.history import HistoryRows, ScoringRows, SummedRows
from ssmrec.models.lightgcn import LightGCN, PropagatedBackbone, SVDpp
from ssmrec.models.lightgcnpp import LightGCNpp
from ssmrec.models.mf import MF
from ssmrec.models.nescl import NESCL
from ssmrec.models.ngcf import NGCF
from ssmrec.models.popular import Popular
from ssmrec.models.simplex import SimpleX
from ssmrec.models.svd import SVD
from ssmrec.models.uipc import UIPCMF

MODELS: dict[str, type[Backbone]] = {
    "mf": MF,
    "svdpp": SVDpp,
    "lightgcn": LightGCN,
    "ngcf": NGCF,
    "lightgcnpp": LightGCNpp,
    "simplex": SimpleX,
    "simgcl": SimGCL,
    "xsimgcl": XSimGCL,
    "sgl": SGL,
    "nescl": NESCL,
    "svd": SVD,
    "popular": Popular,
    "uipcmf": UIPCMF,
    "ease": EASE,
    "gfcf": GFCF,
    "ials": IALS,
    "blend": Blend,
}

__all__ = [
    "EASE",
    "GFCF",
    "IALS",
    "MF",
    "MODELS",
    "NESCL",
    "NGCF",
    "SGL",
    "SVD",
    "UIPCMF",
    "Backbone",
    "Blend",
    "Graph",
    "HistoryRows",
    "LightGCN",
    "LightGCNpp",
    "Popular",
    "PropagatedBackbone",
    "SVDpp",
    "ScoringRows",
    "SimGCL",
    "SimpleX",
    "SummedRows",
    "Vectors",
    "XSimGCL",
]
