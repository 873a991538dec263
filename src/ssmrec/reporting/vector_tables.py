"""The tables of an analysis that concern vectors: magnitude and geometry."""

from __future__ import annotations

from typing import Any

from rich.console import Group

from ssmrec.reporting.cells import extent, number, share, titled


def norms_table(magnitude: dict[str, Any], side: str) -> Group:
    found = {n["vectors"]: n for n in magnitude["nodes"] if n["side"] == side}
    bins = zip(*(each["bins"] for each in found.values()), strict=True)
    rows = [
        [extent(b[0]), f"{b[0]['nodes']:,}", *(number(each["mean"], 3) for each in b)] for b in bins
    ]
    rows.append(["correlation", "", *(number(each["spearman"], 3) for each in found.values())])
    return titled(
        f"Magnitude: mean length of the vectors of {side} by degree",
        """final: the vectors that rank; ego: the learned layer-0 rows; start: what final was before the
        first step. correlation: of length and degree, by ranks.""",
        ["degree", side, *found], rows, last=True,
    )  # fmt: skip


def message_table(magnitude: dict[str, Any]) -> Group:
    stages = magnitude["message"]
    bins = zip(*(stage["bins"] for stage in stages), strict=True)
    rows = [
        [extent(b[0]), f"{b[0]['nodes']:,}"]
        + [f"{value:.3g}" for each in b for value in (each["measured"], each["lemma"])]
        for b in bins
    ]
    heads = [head for stage in stages for head in (stage["stage"], "lemma")]
    return titled(
        "Magnitude: squared length of one message to an item (Eq 23)",
        """start, final: measured on the layer-0 rows before and after training. The lemma takes mean
        and variance of these rows and independent neighbours. Its growth needs a mean that is not zero;
        above the lemma, neighbours of one item are more alike than users at large.""",
        ["degree", "items", *heads], rows,
    )  # fmt: skip


def ranking_table(magnitude: dict[str, Any], k: int) -> Group:
    rows = [
        [
            r["similarity"] + (" (the run's)" if r["used"] else ""), number(r["recall"]),
            number(r["ndcg"]), number(r["mean_popularity"], 1),
        ]
        for r in magnitude["ranking"]
    ]  # fmt: skip
    return titled(
        f"Magnitude: what it does to the lists of {k}",
        "dot lets the length of an item's vector count, cosine does not.",
        ["ranked by", "recall", "ndcg", "popularity"], rows,
    )  # fmt: skip


def lemma_table(lemma: dict[str, Any]) -> Group:
    cases, rows = lemma["cases"], []
    for lines in zip(*(case["rows"] for case in cases), strict=True):
        cells = [str(lines[0]["degree"])]
        for line in lines:
            simulated = f"{line['simulated']:.3f} ± {line['standard_error']:.3f}"
            cells += [number(line["closed_form"], 3), simulated]
        rows.append(cells)
    heads = [head for c in cases for head in (f"mean {c['mean']:g}", "simulated")]
    return titled(
        f"Magnitude: the lemma on simulated neighbours, exponents {lemma['alpha']}",
        f"""Expected square per dimension by the lemma, beside its simulation with the standard error;
        rows of deviation {lemma["deviation"]:g}, degrees from a Pareto law of shape
        {lemma["shape"]:g}.""",
        ["degree", *heads], rows,
    )  # fmt: skip


def geometry_table(geometry: dict[str, Any]) -> Group:
    rows = [
        [
            f"{s['side']}, {s['vectors']}", number(s["effective_rank"], 1),
            str(len(s["singular_values"])), share(s["first_share"]), share(s["mean_share"]),
        ]
        for s in geometry["spectrum"]
    ]  # fmt: skip
    align, uniform = geometry["alignment"], geometry["uniformity"]
    return titled(
        "Geometry: alignment, uniformity and spectrum",
        f"""Alignment (mean squared distance on the sphere, lower is closer): training pairs
        {number(align["train"], 2)}, held-out pairs {number(align["held_out"], 2)}, random pairs
        {number(align["random"], 2)}. Uniformity (lower is more spread, about -4 at best): users
        {number(uniform["users"], 2)}, items {number(uniform["items"], 2)}. In %: first, share of the
        largest singular value in the sum of squares; mean, share of the mean vector in it.""",
        ["vectors", "effective rank", "of", "first", "mean"], rows,
    )  # fmt: skip
