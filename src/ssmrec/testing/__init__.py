"""A battery for own parts: does this loss, sampler or backbone keep its contract?

    from ssmrec.testing import check_loss

    check_loss(MyLoss, temperature=0.1)

Every check raises `AssertionError` with a message that says what the part did wrong.
"""

from ssmrec.testing.backbones import check_backbone
from ssmrec.testing.data import toy
from ssmrec.testing.losses import check_loss
from ssmrec.testing.samplers import check_sampler

__all__ = ["check_backbone", "check_loss", "check_sampler", "toy"]
