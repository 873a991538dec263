"""How wrong: one value a row. To add a loss: a class in a file, and a line in `LOSSES`."""

from ssmrec.losses.adaptive import AdapTau
from ssmrec.losses.advinfonce import AdvInfoNCE
from ssmrec.losses.alignment import MAWU, DirectAU
from ssmrec.losses.base import Context, Loss, LossConfig, Similarity, corrected, prepare
from ssmrec.losses.bias import BCLoss, PopDCL
from ssmrec.losses.bsl import BSL, SL
from ssmrec.losses.ccl import CCL, MMCL
from ssmrec.losses.debiased import DCL, HCL, IHN
from ssmrec.losses.invcf import InvCF
from ssmrec.losses.pairwise import BCE, BPR
from ssmrec.losses.positives import DPL, MSCL
from ssmrec.losses.psl import PSL, SLatK
from ssmrec.losses.scaled import GBCE, SCE
from ssmrec.losses.ssm import SampledSoftmax, Softmax

LOSSES: dict[str, type[Loss]] = {
    "ssm": SampledSoftmax,
    "softmax": Softmax,
    "bpr": BPR,
    "bce": BCE,
    "sl": SL,
    "bsl": BSL,
    "psl": PSL,
    "sl_at_k": SLatK,
    "ccl": CCL,
    "mmcl": MMCL,
    "directau": DirectAU,
    "mawu": MAWU,
    "sce": SCE,
    "gbce": GBCE,
    "advinfonce": AdvInfoNCE,
    "adap_tau": AdapTau,
    "bc": BCLoss,
    "popdcl": PopDCL,
    "invcf": InvCF,
    "dcl": DCL,
    "hcl": HCL,
    "ihn": IHN,
    "dpl": DPL,
    "mscl": MSCL,
}

__all__ = [
    "BCE", "BPR", "BSL", "CCL", "DCL", "DPL", "GBCE", "HCL", "IHN", "LOSSES", "MAWU", "MMCL", "MSCL",
    "PSL", "SCE", "SL", "AdapTau", "AdvInfoNCE", "BCLoss", "Context", "DirectAU", "InvCF", "Loss", "LossConfig",
    "PopDCL", "SLatK", "SampledSoftmax", "Similarity", "Softmax", "corrected", "prepare",
]  # fmt: skip
