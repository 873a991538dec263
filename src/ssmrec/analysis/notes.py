"""What must stand beside the figures of an analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.analysis.subject import Subject


def notes(
    subject: Subject, k: int, over_training: bool, corrections: Mapping[str, Any] | None
) -> list[str]:
    """Texts on what could not be computed, what was not asked for, and what a reader must know.

    Args:
        k: length of the lists. over_training: whether the run was to be trained once more.
        corrections: the section of that name; None when it was not asked for.
    """
    notes = _on_corrections(subject, corrections)
    if k > (listable := int((subject.train.item_degrees > 0).sum())):
        notes.append(f"lists of {k} are longer than the {listable} items that can be listed")
    if subject.solved and over_training:
        notes.append("a closed form has no training to look at: it was solved, not trained")
    if subject.solved:
        notes.append(
            "the model is solved in closed form: there are no negatives, no loss and no start to look at"
        )
    elif not over_training:
        notes.append(
            "a run folder keeps the final model only, so training is shown by its two ends: the start, "
            "made again from the seed, and the model that was kept; --over-training trains once more "
            "and shows what lies between"
        )
    if subject.final is None:
        notes.append(
            "an item-item model has no user vectors: magnitude and geometry cannot be measured"
        )
    elif not subject.solved and subject.sampler.chooses:
        notes.append(
            "the sampler keeps the hardest of its draws, here by the scores of the final model at every stage"
        )
    elif not subject.solved and subject.sampler.mixes:
        notes.append(
            "the sampler mixes vectors of its draws; what is shown are the draws themselves"
        )
    if subject.final is not None and subject.similarity == "dot" and not subject.solved:
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
