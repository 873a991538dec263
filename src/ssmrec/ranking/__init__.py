"""Top-N: tiled exact top-K, seen mask, filters, recommendations."""

from ssmrec.ranking.ids import as_ids, none_known
from ssmrec.ranking.ranker import Choice, Ranker, Unknown
from ssmrec.ranking.recommend import recommend_frame
from ssmrec.ranking.topk import ItemRows, Progress, TopK, top_k

__all__ = [
    "Choice", "ItemRows", "Progress", "Ranker", "TopK", "Unknown", "as_ids", "none_known",
    "recommend_frame", "top_k",
]  # fmt: skip
