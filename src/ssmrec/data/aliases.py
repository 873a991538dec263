"""Which column is which, told from common names."""

from __future__ import annotations

import re

ALIASES: dict[str, tuple[str, ...]] = {
    "user": (
        "user", "userid", "uid", "u", "customer", "customerid", "custid", "visitor", "visitorid",
        "member", "memberid", "reviewer", "reviewerid", "client", "clientid", "buyer", "buyerid",
        "shopper", "shopperid", "listener", "listenerid", "viewer", "viewerid", "account",
        "accountid", "household", "householdid", "session", "sessionid",
    ),
    "item": (
        "item", "itemid", "iid", "i", "movie", "movieid", "film", "filmid", "product", "productid",
        "productcode", "parentasin", "asin", "sku", "ean", "stockcode", "article", "articleid",
        "book", "bookid", "isbn", "track", "trackid", "song", "songid", "album", "albumid",
        "artist", "artistid", "video", "videoid", "game", "gameid", "news", "newsid", "recipe",
        "recipeid", "business", "businessid", "venue", "venueid", "offer", "offerid", "listing",
        "listingid",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "datetime", "date", "unixtime", "unixreviewtime", "eventtime",
        "createdat", "invoicedate", "orderdate", "purchasedate",
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "value"),
    "weight": ("weight",),
}  # fmt: skip


def plain(name: str) -> str:
    """`User_ID` and `user_id:token` both read as `userid`."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def is_known(name: str) -> bool:
    """Whether a name stands for one of the roles."""
    return any(plain(name) in names for names in ALIASES.values())


def find_alias(role: str, names: list[str]) -> str | None:
    """The column whose name best stands for a role, in the order of `ALIASES`."""
    by_plain = {plain(name): name for name in reversed(names)}
    return next((by_plain[alias] for alias in ALIASES[role] if alias in by_plain), None)


def is_number(text: str) -> bool:
    """Whether a text field reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
