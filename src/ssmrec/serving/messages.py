"""The shape of questions and answers over HTTP, and the limits on them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from ssmrec.serving.bodies import SECONDS
from ssmrec.serving.service import LONGEST


def _whole(value: Any) -> Any:
    """To JSON 7.0 is the integer 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _id(value: Any, valid: ValidatorFunctionWrapHandler) -> int | str:
    """One message in the place of one for each type that an id may have."""
    try:
        return valid(_whole(value))
    except ValidationError:
        told = "must be an id: a whole number of 64 bits, or text of 1 to {longest} characters"
        raise PydanticCustomError("id", told, {"longest": LONGEST}) from None


_TOLD: Any = {"minimum": 1024 - 2**63, "maximum": 2**63 - 1024}
"""What the OpenAPI document says of a whole number of 64 bits: it holds no number that is not a float."""
Id = Annotated[
    Annotated[StrictInt, Field(ge=-(2**63), lt=2**63, json_schema_extra=_TOLD)]
    | Annotated[StrictStr, Field(min_length=1, max_length=LONGEST)],
    WrapValidator(_id),
]
Unknown = Literal["popular", "skip", "error"]
"""What a user who was not trained on gets."""


class Limits(BaseModel):
    """What one request may ask for.

    Attributes:
        k: longest list.
        batch: users or items in one request.
        filter: items in one filter or history.
        body: bytes of a request body.
        seconds: for a request body to come.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    k: int = Field(default=1000, ge=1)
    batch: int = Field(default=1000, ge=1)
    filter: int = Field(default=10_000, ge=1)
    body: int = Field(default=1 << 20, ge=1)
    seconds: float = Field(default=SECONDS, gt=0)


class Body(BaseModel):
    """A request body; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid")


class Item(BaseModel):
    item: int | str
    score: float | None = None
    title: str | None = None
    popularity: int | None = None


class UserList(BaseModel):
    user: int | str
    known: bool
    items: list[Item]


class ItemList(BaseModel):
    item: int | str
    known: bool
    items: list[Item]


class NewUserList(BaseModel):
    known: bool
    items: list[Item]
    unknown_items: list[int | str]


class Recommended(BaseModel):
    run: str
    lists: list[UserList]


class SimilarItems(BaseModel):
    run: str
    lists: list[ItemList]


class Folded(BaseModel):
    run: str
    how: str
    lists: list[NewUserList]


class History(BaseModel):
    run: str
    user: int | str
    known: bool
    items: list[Item]


class Reason(BaseModel):
    item: int | str
    effect: float
    title: str | None = None
    popularity: int | None = None


class Explanation(BaseModel):
    item: int | str
    reasons: list[Reason]


class Explained(BaseModel):
    run: str
    user: int | str
    how: str
    items: list[Explanation]


class Users(BaseModel):
    run: str
    users: list[int | str]
    matches: int


class Health(BaseModel):
    status: Literal["ok"]
    run: str
    folder: str
    model: str
    index: str | None
    users: int
    items: int
    live_since: float
    swaps: int
    failed_swaps: int


class Problem(BaseModel):
    detail: str


class Bodies:
    """Request bodies with the limits in them, so that the OpenAPI page states them."""

    def __init__(self, limits: Limits) -> None:
        length, whole = Field(ge=1, le=limits.k), BeforeValidator(_whole)
        batch = Field(min_length=1, max_length=limits.batch)
        some = Field(min_length=1, max_length=limits.filter)
        at_most = Field(max_length=limits.filter)  # nothing to deny is an answer, too

        class RecommendBody(Body):
            users: Annotated[list[Id], batch]
            k: Annotated[StrictInt, length, whole] = min(10, limits.k)
            include_seen: StrictBool = False
            unknown: Unknown = "popular"
            allow: Annotated[list[Id], some] | None = None
            deny: Annotated[list[Id], at_most] | None = None
            candidates: Annotated[list[Id], some] | None = None
            details: StrictBool = False

        class SimilarBody(Body):
            items: Annotated[list[Id], batch]
            k: Annotated[StrictInt, length, whole] = min(10, limits.k)
            details: StrictBool = False

        class FoldInBody(Body):
            users: Annotated[list[Annotated[list[Id], some]], batch]
            k: Annotated[StrictInt, length, whole] = min(10, limits.k)
            allow: Annotated[list[Id], some] | None = None
            deny: Annotated[list[Id], at_most] | None = None
            details: StrictBool = False

        self.recommend, self.similar, self.fold_in = RecommendBody, SimilarBody, FoldInBody
