"""The tables of `ssmrec analyze`, from the dictionary that `analysis.run` documents."""

from __future__ import annotations

from typing import Any

from rich.console import Group

from ssmrec.reporting.cells import extent, number, share, titled
from ssmrec.reporting.corrections import corrections_table
from ssmrec.reporting.vector_tables import (
    geometry_table,
    lemma_table,
    message_table,
    norms_table,
    ranking_table,
)

LOSSES = {"ssm": "SSM", "ssm_plain": "SSM, no log q", "bpr": "BPR", "bce": "BCE"}


def analysis_tables(result: dict[str, Any]) -> list[Group]:
    """All tables of one analysis with title and reading aid, in the order of the dictionary."""
    popularity = result["popularity"]
    tables = [
        _groups(popularity, popularity["rankers"][0]),
        _rankers(popularity, result["settings"]["k"]),
    ]
    if popularity["theory"]:
        tables.append(_theory(popularity["theory"]))
    if result["corrections"]:
        tables.append(corrections_table(result))
    if result["negatives"]:
        tables += [_weights(result["negatives"]), _temperatures(result["negatives"])]
    if result["bound"]:
        tables.append(_bound(result["bound"]))
    if result["training"]:
        tables.append(_course(result["training"]))
    magnitude = result["magnitude"]
    if magnitude["nodes"]:
        tables += [norms_table(magnitude, side) for side in ("items", "users")]
        tables += [message_table(magnitude), ranking_table(magnitude, result["settings"]["k"])]
    tables.append(lemma_table(magnitude["lemma"]))
    if result["geometry"]:
        tables.append(geometry_table(result["geometry"]))
    if result["against"]:
        tables.append(_side_by_side(result))
    return tables


def _groups(popularity: dict[str, Any], ranker: dict[str, Any]) -> Group:
    groups, recall, ndcg = popularity["groups"], ranker["recall"], ranker["ndcg"]

    def parts(metric: dict[str, Any], at: int) -> list[str]:
        value, total = metric["by_group"][at], metric["total"]
        return [number(value), share(value / total if total else None)]

    rows = [
        [
            str(g["group"]) + {1: " tail", len(groups): " head"}.get(g["group"], ""), extent(g),
            f"{g['items']:,}", share(g["held_out_share"]), share(ranker["list_share"][at]),
            share(ranker["found"][at]), *parts(recall, at), *parts(ndcg, at),
        ]
        for at, g in enumerate(groups)
    ]  # fmt: skip
    totals = [number(recall["total"]), "100", number(ndcg["total"]), "100"]
    items = sum(g["items"] for g in groups)
    rows.append(["all", "", f"{items:,}", "", "", "", *totals])
    return titled(
        f"Popularity: where the hits of {ranker['label']} come from",
        """Groups hold equal shares of the training pairs. In %: held out: share of what is to be found;
        places: share of the list places; found: share of the group's held-out pairs that are listed.
        Recall and NDCG of the groups add up to the total.""",
        ["group", "degree", "items", "held out", "places", "found", "recall", "%", "ndcg", "%"],
        rows, last=True,
    )  # fmt: skip


def _rankers(popularity: dict[str, Any], k: int) -> Group:
    def line(
        name: str, recall: str, ndcg: str, head: float | None, lists: dict[str, Any]
    ) -> list[str]:
        return [
            name, recall, ndcg, share(head), number(lists["mean_popularity"], 1),
            number(lists["gini"], 3), share(lists["coverage"]), share(lists["tail_share"]),
        ]  # fmt: skip

    rows = []
    for ranker in popularity["rankers"]:
        recall, ndcg = ranker["recall"]["total"], ranker["ndcg"]
        head = ndcg["by_group"][-1] / ndcg["total"] if ndcg["total"] else None
        rows.append(
            line(ranker["label"], number(recall), number(ndcg["total"]), head, ranker["lists"])
        )
    for key, name in (("train", "training pairs"), ("held_out", "held-out pairs")):
        rows.append(line(name, "", "", None, popularity["data"][key]))
    return titled(
        f"Popularity: the lists of {k} beside the data",
        f"""In %: head, share of NDCG from the most popular group; popularity: mean degree of a user's items;
        gini: inequality of the items' counts; coverage: share of items that occur; tail: share of
        pairs on the {popularity["tail"]:.0%} least popular items. Lists far above the data in popularity
        and gini favour the popular.""",
        ["", "recall", "ndcg", "head", "popularity", "gini", "coverage", "tail"], rows,
    )  # fmt: skip


def _theory(theory: dict[str, Any]) -> Group:
    names = ("closed_form", "minimised", "run")
    rows = [
        [extent(b), f"{b['pairs']:,}", number(b["expected_count"], 3)]
        + [number(b[name], 2) for name in names]
        for b in theory["bins"]
    ]
    slopes = [number(theory["slope"][name], 2) for name in names]
    rows.append(["slope", f"{theory['pairs']:,}", "", *slopes])
    why = "" if theory["applies"] else f" Not about this run's own training: {theory['reason']}."
    difference = theory["difference"]
    return titled(
        "Popularity: the best score of an item under sampled softmax (Eq 9)",
        f"""Scores minus their user's mean; drawn: how often the item is expected among the negatives
        of a row. slope: on log degree within users; -1 is inversely proportional to popularity. Eq 9
        and the minimum differ by {number(difference["median"], 3)} in the median and
        {number(difference["largest"], 3)} at most.{why}""",
        ["degree", "pairs", "drawn", "Eq 9", "minimum", "run"], rows, last=True,
    )  # fmt: skip


def _weights(negatives: dict[str, Any]) -> Group:
    rows = [
        [stage["stage"] if at == 0 else "", LOSSES[loss], *_concentration(stage[loss])]
        for stage in negatives["stages"]
        for at, loss in enumerate(name for name in LOSSES if stage.get(name))
    ]
    sampler = negatives["sampler"] + ("" if negatives["own"] else ", for the run draws too few")
    wrong, beyond = negatives["false_negatives"], negatives["beyond_peak"]
    far = "" if beyond is None else (
        f""" g(x) peaks at {negatives["curve"]["peak"]:.3f}: {share(beyond["negatives"])} % of the
        negatives lie beyond, with {share(beyond["ssm"])} % of SSM's pull."""
    )  # fmt: skip
    return titled(
        f"Negatives: how a loss spreads its gradient, temperature {negatives['temperature']:g}",
        f"""{negatives["rows"]} rows, {negatives["candidates"]:,.0f} negatives each
        ({sampler}). effective: number of equally weighted negatives with the same entropy;
        hardest: share of the gradient, in %, on the most similar negatives.{far} False negatives: of all
        candidates {share(wrong["known"])} % are training items of the row's user and
        {share(wrong["held_out"])} % held-out ones; the run masks {share(wrong["masked"])} %, and those
        left carry {share(wrong["weight"])} % of SSM's weight.""",
        ["", "loss", "effective", "evenness", "hardest 1 %", "5 %", "10 %"], rows,
    )  # fmt: skip


def _concentration(values: dict[str, float]) -> list[str]:
    return [
        number(values["effective"], 0), number(values["evenness"], 3),
        *(share(values[f"hardest_{q}"]) for q in (1, 5, 10)),
    ]  # fmt: skip


def _temperatures(negatives: dict[str, Any]) -> Group:
    grid = negatives["temperatures"]
    names = [name for name in LOSSES if grid[0].get(name)]
    rows = [
        [f"{each['temperature']:.3g}", number(each["peak"], 3), number(each["ssm"]["effective"], 0),
         *(share(each[name]["hardest_5"]) for name in names)]
        for each in grid
    ]  # fmt: skip
    return titled(
        "Negatives: the same scores at other temperatures",
        """The final model's similarities, divided by other temperatures (the run's own in the middle
        row). effective: negatives that count under SSM; under the losses: share of the gradient in % on
        the hardest 5 %.""",
        ["temperature", "peak of g", "effective", *(LOSSES[name] for name in names)], rows,
    )  # fmt: skip


def _course(training: dict[str, Any]) -> Group:
    k, rows = training["k"], []
    for point in training["points"]:
        chain, ssm = point["bound"]["train"], point["negatives"]["ssm"]
        gap = (point["bound"].get("held_out") or {}).get("gap")
        rows.append([
            str(point["epoch"]), number(point["loss"], 3), number(point["ndcg"]),
            number(chain["neg_log_dcg"], 2), number(chain["ssm"], 2), number(chain["gap"], 2),
            number(gap, 2), number(ssm["effective"], 0), share(ssm["hardest_5"]),
        ])  # fmt: skip
    return titled(
        "Over training: the bound, the metric and the negatives by epoch",
        f"""The run trained once more from its seed. NDCG@{k} is of the held-out pairs; -log DCG, SSM and the
        gap between them of training pairs, in nats; gap held out: of held-out pairs. Effective: number of
        negatives that carry SSM's gradient; hardest: share of the hardest 5 % in it, in %.""",
        ["epoch", "loss", "ndcg", "-log DCG", "SSM", "gap", "gap held out", "effective", "hardest"], rows,
    )  # fmt: skip


def _bound(parts: list[dict[str, Any]]) -> Group:
    def line(name: str, key: str, digits: int) -> list[str]:
        return [name, *(number(part[key], digits) for part in parts)]

    terms = {
        "neg_log_dcg": "-log DCG",
        "neg_log_gain": "-log gain",
        "log_rank": "log rank",
        "ssm": "SSM",
    }
    rows = [
        line("pairs", "pairs", 0), line("candidates", "candidates", 0),
        line("median rank", "median_rank", 0),
        *([name, *(number(part["terms"][key], 2) for part in parts)] for key, name in terms.items()),
        line("gap", "gap", 2), line("correlation", "spearman", 3),
        line("tightest", "tightest", 3),
    ]  # fmt: skip
    broken = sum(part["violations"] for part in parts)
    return titled(
        "Ranking metric: -log DCG <= -log gain <= log rank <= SSM (Eq 15, 16)",
        f"""Means over pairs, in nats; the chain is broken in {broken} pairs. DCG: over all relevant
        candidates of the user; gain: 1 / log2(1 + rank) of the pair alone; gap: SSM - (-log DCG);
        correlation: of SSM and rank; tightest: the temperature with the lowest bound for these
        scores, of nine from a quarter of the run's to four times it.""",
        ["", *(part["label"] for part in parts)], rows,
    )  # fmt: skip


def _side_by_side(result: dict[str, Any]) -> Group:
    other = result["against"]
    pairs = [_key_figures(result), _key_figures(other)]
    rows = [
        [name, *(number(figures.get(name), 3) for figures in pairs)]
        for name in dict.fromkeys([*pairs[0], *pairs[1]])
    ]
    labels = [
        result["popularity"]["rankers"][0]["label"],
        result["popularity"]["rankers"][-1]["label"],
    ]
    return titled("Both runs", "Definitions as above.", ["", *labels], rows)


def _key_figures(part: dict[str, Any]) -> dict[str, float | None]:
    """A few figures of one run, by name."""
    figures: dict[str, float | None] = {}
    if part["negatives"]:
        ssm = part["negatives"]["stages"][-1].get("ssm") or {}
        figures["effective negatives under SSM"] = ssm.get("effective")
        figures["SSM's gradient on the hardest 5 %"] = ssm.get("hardest_5")
    for each in part["bound"]:
        if each["name"] != "batch":
            figures[f"gap of the bound, {each['label']}"] = each["gap"]
    for each in part["magnitude"]["nodes"]:
        if each["vectors"] == "final":
            figures[f"length and degree of {each['side']}, correlation"] = each["spearman"]
    for each in part["magnitude"]["ranking"]:
        figures[f"NDCG ranked by {each['similarity']}"] = each["ndcg"]
    if part["geometry"]:
        figures["alignment of training pairs"] = part["geometry"]["alignment"]["train"]
        figures["uniformity of items"] = part["geometry"]["uniformity"]["items"]
        for each in part["geometry"]["spectrum"]:
            if each["vectors"] == "final":
                figures[f"effective rank of {each['side']}"] = each["effective_rank"]
    return figures
