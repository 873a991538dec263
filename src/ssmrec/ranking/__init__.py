"""Top-N: tiled exact top-K, seen mask, recommendations."""

from ssmrec.ranking.recommend import recommend_frame
from ssmrec.ranking.topk import Progress, TopK, top_k

__all__ = ["Progress", "TopK", "recommend_frame", "top_k"]
