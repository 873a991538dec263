"""What a run tells of itself, `metrics.json` and `history.jsonl`, checked where all commands read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
)

from ssmrec.config import explain


class _Facts(BaseModel):
    """Of JSON, so that `1` is no text and `true` no number; other versions may tell more."""

    model_config = ConfigDict(strict=True, extra="allow")


def _of_lists(values: dict[str, float]) -> dict[str, float]:
    for name in values:
        if not name.partition("@")[2].isdecimal():
            raise ValueError("must name metrics as recall@20")
    return values


_Values = Annotated[dict[str, float], AfterValidator(_of_lists)]


class _Seconds(_Facts):
    train: float
    eval: float


class _Similarity(_Facts):
    train: str | None
    rank: str


class _Measured(_Facts):
    users: int
    held_out_pairs: int


class _Counts(_Facts):
    data: dict[str, int] | None = None
    test: _Measured | None = None


class _Reference(_Facts):
    most_popular: _Values
    best_possible: _Values


class _Start(_Facts):
    epochs_afresh: int


class _Update(_Facts):
    new_data: str | None = None
    before: list[str] = []


class _Metrics(_Facts):
    protocol: str
    selected_on: str
    stopped: str
    epochs: int
    best_epoch: int
    seconds: _Seconds
    similarity: _Similarity
    test: _Values | None
    valid: _Values | None
    counts: _Counts | None = None
    reference: _Reference | None = None
    peak_memory_bytes: int | None = None
    metric_version: int | None = None
    unfinished: dict[str, list[str]] = {}
    warm_start: _Start | None = None
    update: _Update | None = None


class _Epoch(_Facts):
    __pydantic_extra__: dict[str, float | None]  # loss, rates and metrics
    epoch: int
    train_seconds: float
    phase: str = "train"
    idle: bool = False


class _Phase(_Facts):
    epoch: NonNegativeInt
    best_epoch: NonNegativeInt
    best_value: FiniteFloat
    stopped: str
    history: list[_Epoch]


def read_metrics(path: Path) -> dict[str, Any]:
    """What `metrics.json` holds.

    Raises:
        ValueError: it is none of a run; the message names the fact. RecursionError: it is nested too deeply.
        OSError: it cannot be read.
    """
    return _checked(json.loads(path.read_text(encoding="utf-8")), _Metrics)


def read_history(path: Path) -> list[dict[str, Any]]:
    """What `history.jsonl` holds, one record an epoch; raises as `read_metrics`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_checked(json.loads(line), _Epoch) for line in lines]


def read_phases(text: str) -> dict[str, dict[str, Any]]:
    """How far each phase of a checkpoint is, by its name; raises a `ValueError` as `read_metrics`."""
    phases = {name: _checked(told, _Phase) for name, told in dict(json.loads(text)).items()}
    for name, told in phases.items():
        if not told["best_epoch"] <= told["epoch"] == len(told["history"]):
            raise ValueError(
                f"{name} holds {told['epoch']} epochs and tells of {len(told['history'])}"
            )
    return phases


def _checked(values: Any, schema: type[_Facts]) -> dict[str, Any]:
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error, schema)) from None
    return values
