"""Which host names are answered to: a page of another site, whose name leads here, reads nothing."""

from __future__ import annotations

import asyncio

import pytest

# ruff: noqa: E402
pytest.importorskip("fastapi", reason="extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from ssmrec.errors import ConfigError
from ssmrec.serving.app import make_app
from ssmrec.serving.hosts import hosts_of
from ssmrec.serving.service import Service, load

LOCAL = {"localhost", "127.0.0.1", "[::1]"}


@pytest.mark.parametrize(
    ("address", "host", "allowed", "names"),
    [
        ("127.0.0.1", "127.0.0.1", [], LOCAL),
        ("::1", "::1", [], LOCAL),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", [], LOCAL | {"[::ffff:127.0.0.1]"}),
        ("127.0.1.1", "Build.Local", [], LOCAL | {"build.local"}),
        ("127.0.0.1", "localhost", ["Shop.example:8000", "fd00::7"], LOCAL | {"shop.example", "[fd00::7]"}),
        ("127.0.0.1", "127.0.0.1", ["shop.example", "*"], None),
        ("0.0.0.0", "0.0.0.0", [], None),
        ("fe80::1%eth0", "fe80::1%eth0", [], None),
        ("10.0.0.5", "10.0.0.5", ["shop.example"], LOCAL | {"10.0.0.5", "shop.example"}),
    ],
)  # fmt: skip
def test_only_an_address_of_this_machine_alone_is_guarded_unasked(address, host, allowed, names):
    assert hosts_of(address, host, allowed) == names


@pytest.mark.parametrize("name", ["http://shop.example", "*.shop.example", "a b", "me@shop", ":80"])
def test_what_is_no_host_is_told(name):
    with pytest.raises(ConfigError, match=r"--allow-host .*: must be a name, such as shop.example"):
        hosts_of("127.0.0.1", "127.0.0.1", ["shop.example", name])


@pytest.fixture
def ask(run):
    """`ask(host, path)`: the status and the JSON of one answer."""
    app = make_app(Service(load(run)), hosts=hosts_of("127.0.0.1", "127.0.0.1", ["shop.example"]))

    def go(host: str, path: str = "/history?user=104"):
        async def one():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.get(path, headers={"host": host})

        return asyncio.run(one())

    return go


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST.:80", "[::1]:8000", "shop.example", "[::1]"]
)
def test_its_own_names_are_answered(ask, host):
    assert ask(host).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8000", "", "localhost.evil.example", "evil.example@localhost", "127.0.0.1.evil",
     "localhost, evil.example", "[::1", "127.0.0.2"],
)  # fmt: skip
def test_others_are_told_the_option_and_read_nothing(ask, host):
    for path in ("/history?user=104", "/users", "/", "/metrics", "/no/such"):
        answer = ask(host, path)
        assert answer.status_code == 421
        assert answer.json()["detail"].endswith("start it with --allow-host NAME if it is right")


def test_refusals_are_counted_as_other_answers(ask):
    ask("evil.example"), ask("evil.example", "/no/such")
    text = ask("localhost", "/metrics").text
    assert 'ssmrec_requests_total{code="421",route="/history"} 1.0' in text
    assert 'ssmrec_requests_total{code="421",route="other"} 1.0' in text
