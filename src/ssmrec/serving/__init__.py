"""Use: runs in production. Bulk lists, new users, indexes, databases, HTTP."""

from ssmrec.serving.foldin import FoldIn
from ssmrec.serving.live import Live

__all__ = ["FoldIn", "Live"]
