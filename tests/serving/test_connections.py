"""Clients that do nothing, little or too much, over real sockets: none is waited for without end."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="extra `serve` is not installed")

from ssmrec.serving.app import make_app
from ssmrec.serving.connections import Seldom, make_server
from ssmrec.serving.listening import allow_more_files, listening
from ssmrec.serving.messages import Limits
from ssmrec.serving.service import Service, load

HEADER, BODY, UNREAD, MOST = 1.0, 1.5, 1.0, 4096
ASK = b"GET /recommend?user=103 HTTP/1.1\r\nhost: test\r\n\r\n"
POST = b"POST /recommend HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"


@contextmanager
def serving(app, stop: int = 1) -> Iterator[tuple[tuple[str, int], list[str], Any]]:
    """The address of a server in a thread, the lines it logs, and the server."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    place = listening("127.0.0.1", 0)
    address, server = place.getsockname(), make_server(app, HEADER, UNREAD, stop)
    logging.getLogger("uvicorn.error").addHandler(handler)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address, lines, server
    finally:
        server.should_exit = True
        thread.join(20)
        logging.getLogger("uvicorn.error").removeHandler(handler)


@pytest.fixture(scope="module")
def app(run):
    return make_app(Service(load(run)), Limits(body=MOST, seconds=BODY))


@pytest.fixture(scope="module")
def address(app):
    with serving(app) as (place, _, _):
        yield place


def until_closed(client: socket.socket) -> tuple[bytes, float]:
    """What comes until the other side closes, and after how many seconds it does."""
    start, found = time.monotonic(), b""
    client.settimeout(10)
    while part := client.recv(1 << 16):
        found += part
    return found, time.monotonic() - start


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nho"])
def test_a_connection_without_a_whole_header_is_closed(address, sent):
    with socket.create_connection(address) as client:
        client.sendall(sent)
        found, seconds = until_closed(client)
    assert found == b"" and HEADER - 0.3 < seconds < HEADER + 2


def test_a_header_that_drips_has_no_more_time_on_a_kept_connection_too(address):
    with socket.create_connection(address) as client:
        for _ in range(3):  # each header has its own seconds
            client.sendall(ASK[:20])
            time.sleep(0.6 * HEADER)
            client.sendall(ASK[20:])
            found = b""
            while not found.endswith(b"]}]}"):
                found += client.recv(1 << 16)
            assert found.startswith(b"HTTP/1.1 200")
        start = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < start + 8:
                client.sendall(b"\r\n" if time.monotonic() < start + 0.3 else b"G")
                time.sleep(0.1)
        assert time.monotonic() - start < HEADER + 2


@pytest.mark.parametrize("length", [b"content-length: 100", b"transfer-encoding: chunked"])
def test_half_a_body_is_answered_408(address, length):
    with socket.create_connection(address) as client:
        client.sendall(
            POST + length + b"\r\n\r\n" + (b'5\r\n{"use' if b"chunk" in length else b"{")
        )
        found, seconds = until_closed(client)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408") and b"connection: close" in head.lower()
    assert b'{"detail": "the body did not come within 1.5 seconds"}' in body
    assert BODY - 0.3 < seconds < BODY + 2


def test_a_slow_answer_is_no_slow_client():
    """Nor is one that is read slowly, but one of which nothing is read."""
    content = b"x" * (16 << 20)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(2 * HEADER)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = content if scope["path"] == "/large" else b"done"
        await send({"type": "http.response.body", "body": body})

    with serving(app) as (place, _, _):
        slow = http.client.HTTPConnection(*place)
        slow.request("GET", "/slow")
        assert slow.getresponse().read() == b"done"
        for read in (True, False):
            with socket.create_connection(place) as client:
                client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
                size, end = 0, time.monotonic() + 3 * UNREAD
                while time.monotonic() < end:
                    time.sleep(0.05)
                    size += len(client.recv(1 << 17)) if read else 0
                try:
                    while part := client.recv(1 << 20):
                        size += len(part)
                except ConnectionResetError:
                    pass
            assert (size > len(content)) == read


def test_a_body_of_two_lengths_is_refused_and_what_follows_it_is_not_answered(address):
    """A proxy that goes by the other length would take the second answer for one to somebody else."""
    with socket.create_connection(address) as client:
        both = b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(POST + both + b"0\r\n\r\n" + ASK)
        found, _ = until_closed(client)
    assert found.startswith(b"HTTP/1.1 400") and found.count(b"HTTP/1.1") == 1
    assert b"connection: close" in found.lower()


@pytest.mark.parametrize("declared", [True, False])
def test_a_client_that_sends_all_before_it_reads_gets_its_413(address, declared):
    client = http.client.HTTPConnection(*address, timeout=20)
    content = b" " * 10_000_000
    parts = (
        content if declared else (content[at : at + 9999] for at in range(0, len(content), 9999))
    )
    client.request("POST", "/recommend", parts, {"content-type": "application/json"})
    answer = client.getresponse()
    assert answer.status == 413
    assert json.load(answer) == {"detail": f"the body has more than {MOST} bytes"}


@pytest.mark.parametrize(
    ("header", "first"),
    [
        (b"content-length: 5000\r\nexpect: 100-continue\r\n\r\n", b"HTTP/1.1 413"),
        (b"content-length: 4000\r\nexpect: 100-continue\r\n\r\n", b"HTTP/1.1 100"),
        (b"content-length: 99999999999\r\n\r\n", b"HTTP/1.1 413"),
    ],
)
def test_a_client_that_waits_is_not_asked_for_what_is_too_large(address, header, first):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(POST + header)
        start = time.monotonic()
        assert client.recv(1 << 16).startswith(first)
        assert time.monotonic() - start < BODY / 2


def test_what_is_too_large_and_does_not_end_is_cut_off(address):
    """After the seconds of a body, or 64 MiB: whichever comes first."""
    with socket.create_connection(address) as client:
        client.sendall(POST + b"content-length: 5000\r\n\r\nhalf")
        found, seconds = until_closed(client)
    assert found.startswith(b"HTTP/1.1 413") and seconds < BODY + 2
    sent = 0
    with socket.create_connection(address, timeout=10) as client, pytest.raises(OSError):
        client.sendall(POST + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(3000):
            client.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            sent += 0x10000
    assert sent < 100 << 20


def test_the_end_answers_who_is_still_asking_in_one_line(run):
    """Half a body, and an answer that takes longer than the end may."""
    service = Service(load(run))
    held = threading.Event()
    service.run_aside = lambda *_: asyncio.to_thread(held.wait, 10)  # type: ignore[method-assign]
    questions = POST + b"content-length: 100\r\n\r\n{", ASK.replace(b"recommend", b"explain")
    with serving(make_app(service)) as (place, lines, server), ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(place)) for _ in questions]
        for client, question in zip(clients, questions, strict=True):
            client.sendall(question)
        time.sleep(0.3)
        server.should_exit = True
        found = [until_closed(client)[0] for client in clients]
        held.set()
    for answer in found:
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'{"detail": "the service is stopping; ask again"}' in answer
    assert len(lines) == 1 and lines[0].startswith("Cancel 2 running task(s)")


FEW_FILES = """
import resource, sys
sys.modules["uvloop"] = None  # it refuses connections in the place of waiting
from ssmrec.serving.connections import make_server
from ssmrec.serving.listening import listening

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

place = listening("127.0.0.1", 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
print(place.getsockname()[1], flush=True)
make_server(app, header=3.0).run(sockets=[place])
"""


def test_more_connections_than_files_are_told_in_a_line_and_waited_for():
    server = subprocess.Popen(
        [sys.executable, "-c", FEW_FILES], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        last = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        last.request("GET", "/")
        assert last.getresponse().read() == b"done"
    server.terminate()
    lines = server.communicate()[1].splitlines()
    assert len(lines) == 1 and "LimitNOFILE" in lines[0] and "Too many open files" in lines[0]


def test_no_part_of_an_answer_waits_for_more(app):
    with serving(app) as (place, _, server), socket.create_connection(place) as client:
        client.sendall(ASK)
        client.recv(1 << 16)
        (one,) = server.server_state.connections
        accepted = one.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_lines_that_clients_cause_are_seldom():
    seldom, logger = Seldom(), logging.getLogger("test")
    passed = []
    for level, text in [
        (logging.WARNING, "Invalid HTTP request received."),
        (logging.ERROR, "Exception in ASGI application\n"),
        (logging.ERROR, "socket.accept() out of system resource\nsocket: <...>"),
    ] * 3:
        fault = OSError(24, "Too many open files")
        record = logger.makeRecord("test", level, "", 0, text, (), (OSError, fault, None))
        if seldom.filter(record):
            passed.append((record.getMessage(), record.exc_info is None))
    told = "no more connections can be taken (Too many open files): raise the limit of the service "
    assert passed == [
        ("Invalid HTTP request received.", False),
        ("Exception in ASGI application\n", False),
        (told + "(LimitNOFILE)", True),
        ("Exception in ASGI application\n", False),
        ("Exception in ASGI application\n", False),
    ]


def test_the_limit_of_open_files_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard) - 1, hard))
        allow_more_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
