"""What the service refuses, and how it says so: one line that names the place."""

import json
from collections import Counter as Counts
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from ssmrec.config import nearest
from ssmrec.errors import ConfigError, DataError


async def named(request: Request) -> None:
    """Refuse a parameter that is misspelt, or given twice: it would be answered as if it were not there."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            told = nearest(name, known) if known else ""
            raise ConfigError(f"query.{name}: no such parameter{told}")
        if len(request.query_params.getlist(name)) > 1:
            raise ConfigError(f"query.{name}: given more than once")


class StrictRoute(APIRoute):
    """Refuses a key that a JSON body gives twice: one of the values would be dropped."""

    def get_route_handler(self):
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_Strict(request.scope, request.receive))

        return strict


class _Strict(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counts(key for key, _ in pairs).most_common(1)
        raise HTTPException(422, f"body: the key {key[:40]!r} is given more than once")
    return found


async def invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong and where, in one line; the input is not sent back."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    if first["type"] == "json_invalid":
        at, why = first["loc"][-1], first.get("ctx", {}).get("error", "")
        return JSONResponse({"detail": f"body: not JSON, from character {at} on ({why})"}, 422)
    if first["loc"] == ("body",):
        told = "body: must be a JSON object, with the header content-type: application/json"
        return JSONResponse({"detail": told}, 422)
    place, told = ".".join(str(part) for part in first["loc"]), first["msg"]
    if first["type"] == "extra_forbidden":
        (body,) = request.scope["route"].dependant.body_params
        name = str(first["loc"][-1])[:40]
        place, told = (
            f"body.{name}",
            f"no such key{nearest(name, body.field_info.annotation.model_fields)}",
        )
    return JSONResponse({"detail": f"{place}: {told}"}, 422)


async def unreadable(request: Request, error: Exception) -> JSONResponse:
    """The one fault of a body that the framework tells without a reason."""
    told = "body: not JSON that can be read: not UTF-8, nested too deep, or a number too long"
    return JSONResponse({"detail": told}, 400)


async def refused(request: Request, error: Exception) -> JSONResponse:
    code = 404 if isinstance(error, DataError) else 422 if isinstance(error, ConfigError) else 500
    return JSONResponse({"detail": str(error)}, code)
