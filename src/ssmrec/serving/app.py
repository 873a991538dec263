"""The HTTP service: routes, limits, metrics. Needs the extra `serve`."""

import asyncio
from collections.abc import Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from ssmrec.errors import SsmrecError
from ssmrec.serving import answers
from ssmrec.serving.bodies import Bounded
from ssmrec.serving.hosts import Named
from ssmrec.serving.messages import (
    Bodies,
    Explained,
    Folded,
    Health,
    History,
    Limits,
    Problem,
    Recommended,
    SimilarItems,
    Unknown,
    Users,
)
from ssmrec.serving.middleware import Ending, Marked, Measured
from ssmrec.serving.refusals import StrictRoute, invalid, named, refused, unreadable
from ssmrec.serving.service import LONGEST, Service

PAGE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Text = Annotated[str, Query(min_length=1, max_length=LONGEST)]
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body cannot be read."},
    404: {"model": Problem, "description": "No user or item of that id was trained on."},
    408: {"model": Problem, "description": "The body took too long to come."},
    413: {"model": Problem, "description": "The body is too large."},
    421: {
        "model": Problem,
        "description": "The service does not answer for the host of the request.",
    },
    422: {"model": Problem, "description": "The request is not valid."},
    503: {"model": Problem, "description": "The service is stopping."},
}


ASKED: dict[str, Any] = {"responses": ERRORS, "dependencies": [Depends(named)]}
"""What all questions have in common."""
PLAIN: dict[str, Any] = {
    "responses": {code: ERRORS[code] for code in (421, 422)},
    "dependencies": [Depends(named)],
}
"""And what those that take no parameter have."""


class Metrics:
    """Prometheus metrics of one service."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ssmrec_requests", "Requests answered.", ["route", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "ssmrec_request_seconds", "Seconds from request to answer.", ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )  # fmt: skip
        self.together = Histogram(
            "ssmrec_users_ranked_together", "Users ranked by one matrix product.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=self.registry,
        )  # fmt: skip
        service.together = self.together.observe
        for name, text, value in (
            ("ssmrec_swaps", "Runs swapped in.", lambda: service.swaps),
            ("ssmrec_failed_swaps", "New runs that could not be served.", lambda: service.failures),
            ("ssmrec_live_since", "Unix time of the last swap.", lambda: service.loaded.since),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    def observe(self, route: str, code: int, seconds: float) -> None:
        self.requests.labels(route, str(code)).inc()
        self.seconds.labels(route).observe(seconds)


def make_app(
    service: Service,
    limits: Limits | None = None,
    watch: float = 0.0,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        service: what answers.
        limits: what one request may ask for.
        watch: seconds between looks for a new run in the folder; 0 for never.
        hosts: names that are answered to (`hosts.hosts_of`); None for any.
    """
    limits = limits or Limits()
    metrics = Metrics(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        task = asyncio.create_task(_watching(service, watch)) if watch else None
        yield
        if task:
            task.cancel()

    app = FastAPI(
        title="ssmrec", summary="Recommendations from one trained run.", version="1",
        docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.router.route_class = StrictRoute
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(SsmrecError, refused)
    app.add_exception_handler(400, unreadable)
    _add_bodies(app, service, limits)
    _add_queries(app, service, limits)
    _add_pages(app, service, metrics, limits)
    paths = {path for route in app.routes if (path := getattr(route, "path", None))}
    if hosts is not None:
        app.add_middleware(Named, hosts=hosts)
    app.add_middleware(Bounded, most=limits.body, seconds=limits.seconds)
    app.add_middleware(Ending)
    app.add_middleware(Measured, observe=metrics.observe, routes=paths)
    app.add_middleware(Marked)
    return app


async def _watching(service: Service, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(service.look)


def _add_bodies(app: FastAPI, service: Service, limits: Limits) -> None:
    """The questions for many at once, by POST."""
    bodies = Bodies(limits)

    @app.post("/recommend", response_model=Recommended, **ASKED)
    async def recommend(body: bodies.recommend):  # type: ignore[name-defined]
        """Lists for many users. `candidates` and `allow` are the only items listed, `deny` never is."""
        asked = body.model_dump()
        found = await answers.recommend(service, asked.pop("users"), asked.pop("k"), **asked)
        return await _lists(found)

    @app.post("/similar", response_model=SimilarItems, **ASKED)
    async def similar(body: bodies.similar):  # type: ignore[name-defined]
        """Items like each of some items."""
        return await _lists(await answers.similar(service, body.items, body.k, body.details))

    @app.post("/fold-in", response_model=Folded, **ASKED)
    async def fold_in(body: bodies.fold_in):  # type: ignore[name-defined]
        """Lists for new users, from the items each of them liked, filtered as those of trained users."""
        asked = body.model_dump()
        found = await answers.fold_in(service, asked.pop("users"), asked.pop("k"), **asked)
        return await _lists(found)


def _add_queries(app: FastAPI, service: Service, limits: Limits) -> None:
    """The questions for one, by GET."""
    length, usual = Query(ge=1, le=limits.k), min(10, limits.k)

    @app.get("/recommend", response_model=Recommended, **ASKED)
    async def recommend_one(
        user: Text,
        k: Annotated[int, length] = usual,
        include_seen: bool = False,
        unknown: Unknown = "popular",
        details: bool = False,
    ):
        """The list of one user."""
        found = await answers.recommend(
            service, [user], k, include_seen=include_seen, unknown=unknown, details=details
        )
        return await _lists(found)

    @app.get("/similar", response_model=SimilarItems, **ASKED)
    async def similar_one(item: Text, k: Annotated[int, length] = usual, details: bool = False):
        """Items like an item."""
        return await _lists(await answers.similar(service, [item], k, details))

    @app.get("/explain", response_model=Explained, **ASKED)
    async def explain(
        user: Text,
        item: Text | None = None,
        k: Annotated[int, length] = usual,
        reasons: Annotated[int, Query(ge=1, le=100)] = 3,
    ):
        """What a user has that speaks most for one item, or for each item of the list."""
        return _json(await answers.explain(service, user, item, k, reasons))

    @app.get("/history", response_model=History, **ASKED)
    async def history(user: Text):
        """The items a user has."""
        return _json(answers.history(service, user))

    @app.get("/users", response_model=Users, **ASKED)
    async def users(
        search: Annotated[str, Query(max_length=LONGEST)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    ):
        """Known users whose id begins with `search`."""
        return _json(await asyncio.to_thread(answers.users, service, search, limit))


def _add_pages(app: FastAPI, service: Service, metrics: Metrics, limits: Limits) -> None:
    @app.head("/health", include_in_schema=False, **PLAIN)  # load balancers ask so
    @app.get("/health", response_model=Health, **PLAIN)
    async def health():
        """Which run is live, and the kind of index it is searched by."""
        loaded = service.loaded
        ranker = loaded.live.ranker
        return {
            "status": "ok",
            "run": loaded.version,
            "folder": str(loaded.folder),
            "model": loaded.live.trained.config.model["name"],
            "index": loaded.index.kind if loaded.index else None,
            "users": len(ranker.known_users),
            "items": int(ranker.known_items.sum()),
            "live_since": loaded.since,
            "swaps": service.swaps,
            "failed_swaps": service.failures,
        }

    @app.get("/metrics", response_class=Response, **PLAIN)
    async def prometheus():
        """Metrics in the text format of Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    shown = PAGE.read_text("utf-8")
    shown = shown.replace(
        'max="100" value="10"', f'max="{min(100, limits.k)}" value="{min(10, limits.k)}"'
    )

    @app.head("/", include_in_schema=False)
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page():
        kept = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return HTMLResponse(shown, headers=kept)


async def _lists(content: dict[str, Any]) -> Response:
    """As `_json`, for what may be long."""
    return Response(await answers.encoded(content), media_type="application/json")


def _json(content: dict[str, Any]) -> JSONResponse:
    """Past validation: what is answered was made here."""
    return JSONResponse(content)
