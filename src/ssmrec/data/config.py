"""Settings of the data: where the rows are, which columns to read, what to drop, how to split."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ssmrec.config import Config
from ssmrec.data.aliases import is_number

Column = str | int | None
Strategy = Literal["auto", "random", "temporal", "last", "time", "given"]
_MOMENT = "must be an ISO date, seconds, or a quantile between 0 and 1"


class SplitConfig(Config):
    """How rows become train, validation and test.

    Attributes:
        strategy: `given` takes the files as they are; `random` a share of each user's rows;
            `temporal` the latest share of each user's rows; `last` the latest `last_k` rows of each
            user; `time` all rows from `cut` on. `auto` is `given` when test files exist, else
            `temporal` when there are timestamps, else `random`.
        test: share of a user's rows (of all rows for `time`), rounded down per user. When that
            gives no row at all, each user with 3 rows or more gives 1 (counted). 0 for no test part:
            all rows are learned from, those of a test file too, for lists that people will see.
        valid: share of the rows left after test, taken in the manner of the strategy and with the
            same rule for few rows; 0 for no validation part. With `last` any value above 0 means
            `last_k` rows.
        last_k: rows per user for `last`.
        cut: for `time`: an ISO date, seconds, or a quantile between 0 and 1 (default: 1 - test).
        ties: for `temporal` and `last`, the order of a user's rows with one timestamp: by `item`, which
            holds out those of later ids, or `random`, drawn once for all seeds. `auto`: random, but by
            item in a validation part taken out of a train file.
        overlap: what to do with held-out pairs that are in train as well: `drop` them from the
            held-out part and count them, or `error`.
    """

    strategy: Strategy = "auto"
    test: float = Field(default=0.2, ge=0, lt=1)
    valid: float = Field(default=0.1, ge=0, lt=1)
    last_k: int = Field(default=1, ge=1)
    cut: str | float | None = None
    ties: Literal["auto", "item", "random"] = "auto"
    overlap: Literal["drop", "error"] = "drop"

    @field_validator("cut", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """YAML reads an unquoted 2011-10-01 as a date."""
        if isinstance(value, bool):
            raise ValueError("must be an ISO date, seconds, or a quantile, not true or false")
        number = float(value) if isinstance(value, str) and is_number(value) else value
        if isinstance(number, (int, float)) and not abs(number) < 2**63:  # nor is NaN
            raise ValueError(_MOMENT)
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("cut")
    @classmethod
    def _is_moment(cls, value: Any) -> Any:
        if value is None or isinstance(value, float):
            return value
        try:
            datetime.fromisoformat(value)
        except ValueError:
            if not is_number(value):
                raise ValueError(_MOMENT) from None
        return value

    @model_validator(mode="after")
    def _has_test(self) -> SplitConfig:
        if self.test == 0 and (self.strategy == "given" or self.cut is not None):
            other = "data.split.cut" if self.cut is not None else "data.split.strategy=given"
            raise ValueError(f"test=0 leaves no test part: leave {other} out")
        return self

    @field_validator("cut", "last_k")
    @classmethod
    def _used(cls, value: Any, info: ValidationInfo) -> Any:
        """A setting of one strategy is refused with another one, where it would do nothing."""
        of = {"cut": "time", "last_k": "last"}[str(info.field_name)]
        default = cls.model_fields[str(info.field_name)].default
        if value != default and info.data.get("strategy", of) != of:
            raise ValueError(
                f"is used by data.split.strategy={of} only: set that too, or leave it out"
            )
        return value


class SeedConfig(Config):
    """Attributes:
    seed: decides random splits.
    """

    seed: int = Field(default=0, ge=0, le=2**63 - 1)


class DataConfig(Config):
    """What to read and how to clean it. Columns are names or positions (0, 1, ...).

    A column that is not set is found by its usual name.

    Attributes:
        source: a file, a folder with train.* (and test.*, valid.*), a folder of files, a pattern such
            as `clicks/2011-*.parquet`, the address of Parquet files or of one file, such as
            `s3://shop/clicks/`, or the name of a data set.
        test, valid: files of the held-out parts, in the same layout as `source`.
        user, item: columns of the ids: a name, or a position (0, 1, ...).
        timestamp: column of seconds since 1970, or of ISO dates.
        rating: column that `min_rating` looks at.
        weight: column of numbers above 0, kept with the pairs; `train.weight_power` says how much they
            count in training.
        event: column that `events` looks at.
        events: keep only rows whose event is one of these; one name or a list.
        event_weights: weight of the rows of each of `events`, in their order, as in 5, 1 for buy, view;
            times `weight` where there is one.
        delimiter: of text files; guessed when not set.
        header: whether the first line of a text file is names; guessed when not set.
        ids: the one type of all ids; `auto` keeps the type of frames and Parquet, and reads text as
            integers when all ids of a column are integers (`1.0` is 1, `007` is text). A column
            with 90 % integers or more and some text is an error: set `str`, or mend it.
        format: `jsonl` is one JSON object a line; `adjacency` one line per user: user item item ...
        nulls: what to do with rows that lack an id, a timestamp or a weight above 0. Empty text,
            NaN, NULL, None, NA, N/A and \\N are missing.
        duplicates: a repeated pair becomes one: `first` and `last` keep that timestamp and sum the
            weights, `count` keeps the first timestamp and makes the number of rows the weight;
            `error` refuses repeated pairs.
        min_rating: keep rows with at least this rating; rows without one are dropped.
        min_user, min_item: rows that each user and item must have, applied until all hold (k-core).
        split: how rows become train, validation and test.
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
    event_weights: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...] = ()
    delimiter: str | None = None
    header: bool | None = None
    ids: Literal["auto", "int", "str"] = "auto"
    format: Literal["auto", "parquet", "csv", "jsonl", "adjacency"] = "auto"
    nulls: Literal["error", "drop"] = "error"
    duplicates: Literal["first", "last", "count", "error"] = "first"
    min_rating: float | None = None
    min_user: int = Field(default=0, ge=0)
    min_item: int = Field(default=0, ge=0)
    split: SplitConfig = SplitConfig()

    @field_validator("user", "item", "timestamp", "rating", "weight", "event", mode="before")
    @classmethod
    def _no_bool(cls, value: Any) -> Any:
        """To Python `False` is the integer 0, which would be the first column."""
        if isinstance(value, bool):
            raise ValueError("must be a column name or position, not true or false")
        return value

    @model_validator(mode="after")
    def _a_weight_for_each_event(self) -> DataConfig:
        if self.event_weights and len(self.event_weights) != len(self.events):
            raise ValueError(
                "event_weights: there must be one for each of data.events, in their order"
            )
        if self.event_weights and self.duplicates == "count":
            raise ValueError(
                "event_weights: data.duplicates=count makes other weights: choose first or last"
            )
        return self

    @field_validator("event_weights", mode="before")
    @classmethod
    def _one_weight_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) else value

    @field_validator("events", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        """`events=buy` is one event; numbers are names too."""
        values = value if isinstance(value, (list, tuple, set)) else (value,)
        if any(isinstance(v, bool) or not isinstance(v, (str, int)) for v in values):
            raise ValueError("must be the name of an event or a list of names")
        return tuple(str(v) for v in values)
