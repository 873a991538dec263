"""Several models as one: blends, and the best that a budget of time allows."""

from ssmrec.blending.budget import train_best

__all__ = ["train_best"]
