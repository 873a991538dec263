"""Top-N: tiled exact top-K, seen mask, filters, recommendations."""

from ssmrec.data.vocabulary import as_ids
from ssmrec.ranking.ids import none_known
from ssmrec.ranking.ranker import Choice, Ranker, Unknown
from ssmrec.ranking.recommend import recommend_frame
from ssmrec.ranking.scores import pair_scores
from ssmrec.ranking.topk import ItemRows, Progress, TopK, top_k

__all__ = [
    "Choice", "ItemRows", "Progress", "Ranker", "TopK", "Unknown", "as_ids", "none_known",
    "pair_scores", "recommend_frame", "top_k",
]  # fmt: skip
