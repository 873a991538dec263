"""Whatever fits the OpenAPI document is answered as it says, and what does not is refused."""

from __future__ import annotations

import pytest

# ruff: noqa: E402
pytest.importorskip("fastapi", reason="extra `serve` is not installed")
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, given, settings

from ssmrec.serving.app import make_app
from ssmrec.serving.messages import Limits
from ssmrec.serving.service import Service, load


@pytest.fixture(scope="session")
def document(run):
    service = Service(load(run))
    app = make_app(service, Limits(k=50, batch=10, filter=20, body=1 << 16))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


PATHS = {
    "/recommend",
    "/similar",
    "/fold-in",
    "/explain",
    "/history",
    "/users",
    "/health",
    "/metrics",
}


def test_every_route_keeps_to_its_document(document):
    """Questions made from the document: each answer has a status and a shape that the document names."""
    asked = set()
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck), database=None,
        )  # fmt: skip
        def check(case):
            case.call_and_validate()

        check()
        asked.add((operation.method.upper(), operation.path))
    assert {path for _, path in asked} == PATHS and len(asked) == 10


def test_what_the_document_forbids_is_refused(document):
    """The same with broken questions."""
    modes = [schemathesis.GenerationMode.NEGATIVE]
    for path in ("/recommend", "/similar", "/fold-in"):
        strategy = document[path]["POST"].as_strategy(generation_mode=modes[0])

        @given(case=strategy)
        @settings(
            max_examples=12, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck), database=None,
        )  # fmt: skip
        def check(case):
            assert case.call().status_code in (400, 404, 413, 415, 422)

        check()


def test_the_document_names_every_route(document):
    assert set(document.raw_schema["paths"]) == PATHS
    bounds = document.raw_schema["components"]["schemas"]["RecommendBody"]["properties"]
    assert bounds["k"]["maximum"] == 50 and bounds["users"]["maxItems"] == 10
