"""Settings of the data: where the rows are, which columns to read, what to drop, how to split."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator

from ssmrec.config import Config

Column = str | int | None
Strategy = Literal["auto", "random", "temporal", "last", "time", "given"]


class SplitConfig(Config):
    """How rows become train, validation and test.

    Attributes:
        strategy: `given` takes the files as they are; `random` a share of each user's rows;
            `temporal` the latest share of each user's rows; `last` the latest `last_k` rows of each
            user; `time` all rows from `cut` on. `auto` is `given` when test files exist, else
            `temporal` when there are timestamps, else `random`.
        test: share of a user's rows (of all rows for `time`), rounded down per user.
        valid: share of the rows left after test, taken in the manner of the strategy;
            0 for no validation part. With `last` any value above 0 means `last_k` rows.
        last_k: rows per user for `last`.
        cut: for `time`: an ISO date, seconds, or a quantile between 0 and 1 (default: 1 - test).
        overlap: what to do with held-out pairs that are in train as well.
    """

    strategy: Strategy = "auto"
    test: float = Field(default=0.2, gt=0, lt=1)
    valid: float = Field(default=0.1, ge=0, lt=1)
    last_k: int = Field(default=1, ge=1)
    cut: str | float | None = None
    overlap: Literal["drop", "error"] = "drop"

    @field_validator("cut", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """YAML reads an unquoted 2011-10-01 as a date."""
        return value.isoformat() if isinstance(value, date) else value


class DataConfig(Config):
    """What to read and how to clean it. Columns are names or positions; None means guess.

    Attributes:
        source: a file, a folder with train.* (and test.*, valid.*), or the name of a data set.
        test, valid: files of the held-out parts, in the same layout as `source`.
        rating: column that `min_rating` looks at.
        event, events: keep only rows whose `event` column is one of `events`.
        delimiter, header: of text files; None means guess.
        ids: the one type of all ids; `auto` reads text as integers when all ids are integers.
        format: `adjacency` is one line per user: user item item ...
        nulls: what to do with rows that lack an id, a timestamp or a weight.
        duplicates: a repeated pair becomes one: `first` and `last` keep that timestamp and sum the
            weights, `count` keeps the first timestamp and makes the number of rows the weight.
        min_user, min_item: rows that each user and item must have, applied until all hold (k-core).
    """

    source: str = "online-retail"
    test: str | None = None
    valid: str | None = None
    user: Column = None
    item: Column = None
    timestamp: Column = None
    rating: Column = None
    weight: Column = None
    event: Column = None
    events: tuple[str, ...] = ()
    delimiter: str | None = None
    header: bool | None = None
    ids: Literal["auto", "int", "str"] = "auto"
    format: Literal["auto", "parquet", "csv", "adjacency"] = "auto"
    nulls: Literal["error", "drop"] = "error"
    duplicates: Literal["first", "last", "count", "error"] = "first"
    min_rating: float | None = None
    min_user: int = Field(default=0, ge=0)
    min_item: int = Field(default=0, ge=0)
    split: SplitConfig = SplitConfig()
