"""What must stand beside the figures of an analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.analysis.optimum import MOST_ITEMS
from ssmrec.analysis.subject import Subject
from ssmrec.data import Interactions
from ssmrec.losses import LOSSES


def warning(metrics: Mapping[str, Any]) -> str | None:
    """What must stand beside every figure of a run: that test had a say in it."""
    if metrics["selected_on"] != "test":
        return None
    whose = "the epoch of a part" if metrics["stopped"] == "blended" else "the epoch"
    return f"{whose} was chosen on TEST (protocol published): not an honest estimate"


def other_data(
    source: str | None, held_out: Interactions, kept: Interactions
) -> dict[str, Any] | None:
    """`run.other_data`: counts of held-out pairs that come from `source` and of those left out."""
    if source is None:
        return None
    unknown = held_out.counts.get("unknown_pairs", 0)
    known = len(held_out) - len(kept)
    return {"source": source, "pairs": len(held_out) + unknown, "unknown": unknown, "known": known}


def on_other_data(other: Mapping[str, Any] | None, on: str) -> list[str]:
    """A text for `run.other_data`, of which the part `on` was measured."""
    if other is None:
        return []
    return [
        f"measured on other data than the run's, the {on} part of {other['source']}: of its "
        f"{other['pairs']:,} pairs {other['unknown']:,} are left out because of ids the run does not know, and "
        f"{other['known']:,} because the run knows the pair"
    ]


def notes(
    subject: Subject,
    k: int,
    over_training: bool,
    corrections: Mapping[str, Any] | None,
    theory: Mapping[str, Any] | None,
) -> list[str]:
    """Texts on what could not be computed, what was not asked for, and what a reader must know.

    Args:
        k: length of the lists. over_training: whether the run was to be trained once more.
        corrections: the section of that name; None when it was not asked for.
        theory: that of Eq 9; None when there is no user to compute it for.
    """
    notes = _on_corrections(subject, corrections)
    if theory is None:
        notes.append(
            f"no user has 2 to {MOST_ITEMS} training items: the best score of an item (Eq 9) is left out"
        )
    if k > (listable := int((subject.train.item_degrees > 0).sum())):
        notes.append(f"lists of {k} are longer than the {listable} items that can be listed")
    return [*notes, *_on_training(subject, over_training), *_on_vectors(subject)]


def _on_training(subject: Subject, over_training: bool) -> list[str]:
    if subject.config.model["name"] == "blend":
        return [
            "a blend has no negatives, no loss and no start of its own: analyze its models, trained alone"
        ]
    if subject.solved:
        asked = ["a closed form has no training to look at: it was solved, not trained"]
        return [
            *(asked if over_training else []),
            "the model is solved in closed form: there are no negatives, no loss and no start to look at",
        ]
    if subject.warm:
        return [
            "the run was trained on from an earlier one, whose model its folder does not keep: its start and "
            "its training cannot be shown"
        ]
    if over_training:
        return []
    return [
        "a run folder keeps the final model only, so training is shown by its two ends: the start, "
        "made again from the seed, and the model that was kept; --over-training trains once more "
        "and shows what lies between"
    ]


def _on_vectors(subject: Subject) -> list[str]:
    if subject.final is None:
        return ["an item-item model has no user vectors: magnitude and geometry cannot be measured"]
    if subject.solved:
        return []
    notes, loss = [], subject.config.loss["name"]
    if LOSSES[loss].on_vectors:
        notes.append(
            f"the loss {loss} asks the sampler for nothing: the negatives shown are those that "
            f"{subject.config.negatives['name']} would draw"
        )
    elif subject.sampler.chooses:
        notes.append(
            "the sampler keeps the hardest of its draws, here by the scores of the final model at every stage"
        )
    elif subject.sampler.mixes:
        notes.append(
            "the sampler mixes vectors of its draws; what is shown are the draws themselves"
        )
    if subject.similarity == "dot":
        notes.append(
            "the run trained with inner products: g(x) and its peak are about cosine and are left out; "
            "a negative pulls in proportion to its length"
        )
    return notes


def _on_corrections(subject: Subject, found: Mapping[str, Any] | None) -> list[str]:
    if found is not None:
        lines: dict[str, list[str]] = {}
        for line in found["lines"]:
            lines.setdefault(line["reason"], []).append(line["name"])
        return [f"no {', '.join(names)}: {why}" for why, names in lines.items() if why]
    if subject.final is None:
        return []
    return [
        "--corrections shows what corrections of popularity after training would cost in accuracy and "
        "bring in exposure of the tail"
    ]


def warnings_of(results: Mapping[str, Any]) -> list[str]:
    """What must stand beside every figure of an analysis, of the other run too."""
    runs = [("", results["run"])]
    if other := results.get("against"):
        runs.append((f"{other['run'].get('folder') or other['run']['label']}: ", other["run"]))
    return [f"{name}{run['warning']}" for name, run in runs if run.get("warning")]
