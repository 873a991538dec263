"""The HTTP service inside this process: answers equal Python's, limits hold, swaps lose nothing."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import numpy as np
import polars as pl
import pytest

# ruff: noqa: E402
pytest.importorskip("fastapi", reason="extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from ssmrec.recommender import Recommender
from ssmrec.serving import Live
from ssmrec.serving.app import make_app
from ssmrec.serving.index import build
from ssmrec.serving.messages import Limits
from ssmrec.serving.service import Service, load, version_of
from ssmrec.storage.tensors import read_tensors, write_tensors


def client(app, **options):
    transport = httpx.ASGITransport(app=app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
def service(run):
    return Service(load(run, {"101": "a <b>lamp</b>"}))


@pytest.fixture
def ask(service):
    """`ask("get", path, ...)`: one request."""
    app = make_app(service, Limits(k=50, batch=20, filter=30, body=4096))

    def go(method, path, **options):
        async def one():
            async with client(app) as http:
                return await http.request(method, path, **options)

        return asyncio.run(one())

    return go


def items(part):
    return [row["item"] for row in part["items"]]


def test_recommend_equals_python(ask, run):
    recommender = Recommender.load(run)
    answer = ask("post", "/recommend", json={"users": [103, "117"], "k": 7}).json()
    want = recommender.recommend([103, 117], 7)
    for part, user in zip(answer["lists"], (103, 117), strict=True):
        mine = want.filter(user=user)
        assert part["known"] and items(part) == mine["item"].to_list()
        assert [row["score"] for row in part["items"]] == mine["score"].to_list()
    one = ask("get", "/recommend", params={"user": 103, "k": 7}).json()
    assert items(one["lists"][0]) == items(answer["lists"][0])


def test_unknown_users_are_marked_and_never_taken_for_others(ask, run):
    known = Recommender.load(run).ranker()
    answer = ask("post", "/recommend", json={"users": ["0103", 5, 103.0, 2**63 - 1], "k": 3}).json()
    assert [part["known"] for part in answer["lists"]] == [False, False, True, False]
    popular = items(answer["lists"][0])
    assert popular[0] == 100 and popular == items(answer["lists"][1])  # everybody has item 100
    assert items(answer["lists"][2]) == known.recommend(known.known_users.filter(
        known.known_users == 103), known.choice(3))["item"].to_list()  # fmt: skip
    skipped = ask("post", "/recommend", json={"users": [5], "unknown": "skip"}).json()
    assert skipped["lists"] == [{"user": 5, "known": False, "items": []}]
    refused = ask("post", "/recommend", json={"users": [5, 103, 5], "unknown": "error"})
    assert (
        refused.status_code == 404
        and "1 user(s) were not trained on: [5]" in refused.json()["detail"]
    )


def test_filters(ask, run):
    recommender = Recommender.load(run)
    body = {
        "users": [103],
        "k": 9,
        "candidates": [102, 105, 111],
        "deny": [105],
        "include_seen": True,
    }
    answer = ask("post", "/recommend", json=body).json()
    want = recommender.recommend([103], 9, allow=[102, 111], include_seen=True)
    assert items(answer["lists"][0]) == want["item"].to_list() and len(want) == 2
    wrong = ask("post", "/recommend", json={"users": [103], "allow": ["ghost"]})
    assert wrong.status_code == 404 and "knows none of its 1 items" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("path", "users"), [("/recommend", [103, "ghost"]), ("/fold-in", [[101, 103], ["ghost"]])]
)
def test_nothing_may_be_denied_but_not_allowed(ask, path, users):
    """No item is sold out today; none that may be listed is a mistake."""
    asked = ask("post", path, json={"users": users, "k": 5, "deny": []})
    assert asked.status_code == 200
    assert asked.json() == ask("post", path, json={"users": users, "k": 5}).json()
    refused = ask("post", path, json={"users": users, "allow": []})
    assert refused.status_code == 422 and refused.json()["detail"].startswith("body.allow")


def test_similar_and_details(ask, run):
    answer = ask(
        "post", "/similar", json={"items": [103, "ghost"], "k": 40, "details": True}
    ).json()
    want = Recommender.load(run).similar([103], 40)
    assert items(answer["lists"][0]) == want["similar"].to_list()
    assert answer["lists"][1] == {"item": "ghost", "known": False, "items": []}
    lamp = next(row for row in answer["lists"][0]["items"] if row["item"] == 101)
    assert lamp["title"] == "a <b>lamp</b>"
    assert lamp["popularity"] == Recommender.load(run).trained_.train.item_degrees[1]


def test_fold_in_names_unknown_items(ask, live):
    body = {"users": [[101, 103, 9999], ["ghost"]], "k": 5}
    answer = ask("post", "/fold-in", json=body).json()
    want, _ = live.fold_in([pl.Series([101, 103])], live.ranker.choice(5))
    assert answer["how"] == "propagation"
    assert items(answer["lists"][0]) == want["item"].to_list()
    assert answer["lists"][0]["unknown_items"] == [9999]
    assert not answer["lists"][1]["known"] and items(answer["lists"][1])[0] == 100


def test_explain_equals_python(ask, live):
    answer = ask("get", "/explain", params={"user": 104, "k": 3, "reasons": 2}).json()
    want = live.explain(104, k=3, reasons=2)
    found = [
        (part["item"], row["item"], row["effect"])
        for part in answer["items"]
        for row in part["reasons"]
    ]
    assert found == list(want.select("item", "reason", "effect").iter_rows())
    assert answer["how"] == "propagation" and len(answer["items"]) == 3
    one = ask("get", "/explain", params={"user": 104, "item": 117}).json()
    assert [part["item"] for part in one["items"]] == [117]
    lost = ask("get", "/explain", params={"user": "ghost"})
    assert lost.status_code == 404 and "1 user(s) were not trained on" in lost.json()["detail"]


def test_fold_in_takes_the_filters_of_recommend(ask, live):
    liked, strange = [101, 103], ["ghost"]
    body = {"users": [liked, strange], "k": 9, "allow": [100, 105, 111, 120], "deny": ["105"]}
    his, popular = ask("post", "/fold-in", json=body).json()["lists"]
    choice = live.ranker.choice(9, allow=[100, 111, 120])
    want, _ = live.fold_in([pl.Series(liked)], choice)
    assert items(his) == want["item"].to_list() and len(want) == 3
    assert items(popular) == live.ranker.popular(pl.Series([5]), choice)["item"].to_list()
    wrong = ask("post", "/fold-in", json={"users": [liked], "allow": ["ghost"]})
    assert wrong.status_code == 404 and "knows none of its 1 items" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/recommend", {"users": [1], "topk": 3}, "body.topk: no such key; choose from: allow, cand"),
        ("/recommend", {"usres": [1]}, "body.usres: no such key, did you mean 'users'?"),
        ("/fold-in", {"users": [[1]], "alow": [3]}, "body.alow: no such key, did you mean 'allow'?"),
        ("/fold-in", {"users": [[1]], "xyz": 3}, "choose from: allow, deny, details, k, users"),
        ("/similar", {"items": [1], "q" * 99: 3}, f"body.{'q' * 40}: no such key; choose from: det"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_told_what_there_is(ask, path, body, told):
    answer = ask("post", path, json=body)
    assert answer.status_code == 422 and told in answer.json()["detail"]


def test_history_and_users_for_the_page(ask, run):
    seen = Recommender.load(run).trained_.seen.frame().filter(user=104)
    assert sorted(items(ask("get", "/history?user=104").json())) == seen["item"].to_list()
    assert ask("get", "/users", params={"search": "10"}).json()["users"] == list(range(100, 110))
    page = ask("get", "/")
    assert (
        page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    )


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/recommend", {"users": [1], "k": 51}, "body.k"),
        ("/recommend", {"users": [1], "k": 0}, "body.k"),
        ("/recommend", {"users": list(range(21))}, "body.users"),
        ("/recommend", {"users": []}, "body.users"),
        ("/recommend", {"users": [1.5]}, "body.users.0"),
        ("/recommend", {"users": [True]}, "body.users.0"),
        ("/recommend", {"users": [1], "topk": 3}, "body.topk"),
        ("/recommend", {"users": [1], "unknown": "guess"}, "body.unknown"),
        ("/recommend", {"users": [1], "deny": list(range(31))}, "body.deny"),
        ("/similar", {"items": "101"}, "body.items"),
        ("/fold-in", {"users": [[]]}, "body.users.0"),
    ],
)
def test_what_is_out_of_bounds_is_told_and_not_echoed(ask, path, body, place):
    answer = ask("post", path, json=body)
    assert answer.status_code == 422 and answer.json()["detail"].startswith(place)


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("get", "/recommend?user=103&top=5", "query.top: no such parameter; choose from: "),
        ("get", "/recommend?user=103&unknwon=skip", "did you mean 'unknown'?"),
        ("get", "/similar?itm=103", "did you mean 'item'?"),
        ("get", "/users?serach=1", "did you mean 'search'?"),
        ("post", "/recommend?k=5", "query.k: no such parameter"),
        ("get", "/recommend?user=103&user=104", "query.user: given more than once"),
    ],
)
def test_a_misspelt_parameter_is_refused(ask, method, path, told):
    answer = ask(method, path, **({"json": {"users": [103]}} if method == "post" else {}))
    assert answer.status_code == 422 and told in answer.json()["detail"]


def test_broken_text_is_refused(ask):
    headers = {"content-type": "application/json"}
    told = "body: must be a JSON object, with the header content-type: application/json"
    for content, kind in ((b'{"users": [103]}', "text/plain"), (b"[1]", "application/json")):
        answer = ask("post", "/recommend", content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["detail"]) == (422, told)
    for content in (b'{"users": ["\\ud800"]}', b'{"users": ["\xff"]}', b"{", b""):
        answer = ask("post", "/recommend", content=content, headers=headers)
        assert answer.status_code in (400, 422) and "detail" in answer.json()


def test_large_bodies_are_refused_declared_or_not(ask):
    content = json.dumps({"users": [1], "deny": ["x" * 500] * 20}).encode()
    assert ask("post", "/recommend", content=content).status_code == 413

    async def drops():
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    answer = ask("post", "/recommend", content=drops())
    assert answer.status_code == 413 and "more than 4096 bytes" in answer.json()["detail"]


def test_health_and_metrics_count_what_happened(ask, service):
    ask("get", "/recommend?user=103")
    ask("get", "/recommend?user=103&k=99")
    ask("get", "/no/such/path")
    health = ask("get", "/health").json()
    assert health["model"] == "lightgcn" and health["users"] == 60 and health["items"] == 40
    assert [ask("head", path).status_code for path in ("/health", "/", "/users")] == [200, 200, 405]
    text = ask("get", "/metrics").text
    assert 'ssmrec_requests_total{code="200",route="/recommend"} 1.0' in text
    assert 'ssmrec_requests_total{code="422",route="/recommend"} 1.0' in text
    assert 'ssmrec_requests_total{code="404",route="other"} 1.0' in text
    assert "ssmrec_users_ranked_together_sum 1.0" in text and "ssmrec_swaps 0.0" in text


def test_every_answer_is_counted_under_few_names(ask):
    """Bodies that are too large, declared and sent, or cannot be read; paths and methods that are not there."""

    async def drops():
        for _ in range(50):
            yield b" " * 100

    for content in (b" " * 5000, drops(), b"[" * 4000):
        ask("post", "/fold-in", content=content, headers=JSON)
    for n in range(9):
        ask("post", f"/none/{n}", content=b" " * 5000)
        ask("get", f"/none/{n}")
    ask("delete", "/similar")
    text = ask("get", "/metrics").text
    counted = [line for line in text.splitlines() if line.startswith("ssmrec_requests_total{")]
    assert sorted(line.split("_total")[1] for line in counted) == [
        '{code="400",route="/fold-in"} 1.0',
        '{code="404",route="other"} 9.0',
        '{code="405",route="/similar"} 1.0',
        '{code="413",route="/fold-in"} 2.0',
        '{code="413",route="other"} 9.0',
    ]
    assert 'ssmrec_request_seconds_count{route="/fold-in"} 3.0' in text


def test_a_slow_or_lost_client_is_not_held_against_the_service(service, monkeypatch):
    """Minutes that the body takes to come are not in the time; a client that leaves in it gets no answer."""
    app, now = make_app(service), [0.0]
    monkeypatch.setattr("ssmrec.serving.middleware.time.perf_counter", lambda: now[0])
    scope = {
        "type": "http", "method": "POST", "path": "/similar", "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    first = {"type": "http.request", "body": b'{"items": ', "more_body": True}
    for last in ({"type": "http.request", "body": b"[101]}"}, {"type": "http.disconnect"}):
        messages = iter((first, last))

        async def receive(messages=messages):
            now[0] += 60
            return next(messages)

        async def send(message):
            now[0] += 0.125

        asyncio.run(app(scope, receive, send))

    async def metrics():
        async with client(app) as http:
            return (await http.get("/metrics")).text

    text = asyncio.run(metrics())
    assert text.count("ssmrec_requests_total{") == 1
    assert 'ssmrec_requests_total{code="200",route="/similar"} 1.0' in text
    assert 'ssmrec_request_seconds_sum{route="/similar"} 0.25' in text


def test_questions_that_wait_are_ranked_together_and_stay_apart(service, run):
    """40 questions at once: far fewer products, and each gets its own list of its own length."""
    rounds = []
    service.together = rounds.append
    app = make_app(service)
    service.together = rounds.append

    async def many():
        async with client(app) as http:
            asked = [http.get(f"/recommend?user={100 + n}&k={1 + n % 5}") for n in range(40)]
            return await asyncio.gather(*asked)

    answers = [answer.json()["lists"][0] for answer in asyncio.run(many())]
    want = Recommender.load(run).recommend(list(range(100, 140)), 5)
    for n, part in enumerate(answers):
        mine = want.filter(user=100 + n).head(1 + n % 5)
        assert items(part) == mine["item"].to_list()
        assert [row["score"] for row in part["items"]] == mine["score"].to_list()
    assert sum(rounds) == 40 and len(rounds) < 20


def test_a_swap_under_load_loses_nothing(models, tmp_path):
    """Each answer is whole and of one run: its list is the one that run gives."""
    folder = tmp_path / "live"
    models("lightgcn").save(folder)
    service = Service(load(folder))
    old = service.loaded.version
    app = make_app(service)
    wanted = {old: models("lightgcn").recommend([101], 5)["item"].to_list()}
    answers = []

    async def asking(http, stop):
        while not stop.is_set():
            answers.append(await http.get("/recommend?user=101&k=5"))

    async def scene():
        stop = asyncio.Event()
        async with client(app) as http:
            tasks = [asyncio.create_task(asking(http, stop)) for _ in range(8)]
            await asyncio.sleep(0.2)
            await asyncio.to_thread(models("mf").save, folder, overwrite=True)
            assert await asyncio.to_thread(service.look)
            await asyncio.sleep(0.2)
            stop.set()
            await asyncio.gather(*tasks)

    asyncio.run(scene())
    wanted[service.loaded.version] = models("mf").recommend([101], 5)["item"].to_list()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["run"] for answer in answers} == set(wanted) and len(wanted) == 2
    for answer in answers:
        content = answer.json()
        assert items(content["lists"][0]) == wanted[content["run"]]
    assert not service.look()


def test_a_link_can_be_turned_and_a_broken_run_changes_nothing(models, tmp_path, caplog):
    for name in ("lightgcn", "mf", "svdpp"):
        models(name).save(tmp_path / name)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "lightgcn")
    service = Service(load(link))
    assert not service.look()
    (tmp_path / "svdpp" / "model.safetensors").write_bytes(b"half")
    for target, name, swaps, failures in (("mf", "mf", 1, 0), ("svdpp", "mf", 1, 1)):
        link.unlink()
        link.symlink_to(tmp_path / target)
        service.look()
        assert service.loaded.live.trained.config.model["name"] == name
        assert (service.swaps, service.failures) == (swaps, failures)
    assert not service.look() and service.failures == 1  # told once
    assert f"not served, run {service.loaded.version} stays live: " in caplog.text
    link.unlink()
    link.symlink_to(tmp_path / "nothing")
    service.look()
    assert service.failures == 1  # a run that is being replaced may be gone for a moment
    for _ in range(2):
        assert not service.look() and service.failures == 2
    assert f"{link}: no finished run is there" in caplog.text
    link.unlink()
    link.symlink_to(tmp_path / "lightgcn")
    assert service.look() and service.failures == 2


def test_every_ranked_list_survives_filters_in_the_same_round(service):
    """Filtered and plain questions of one moment do not mix."""
    app = make_app(service)

    async def many():
        async with client(app) as http:
            bodies = [
                {"users": [100 + n], "k": 3, **({"allow": [110 + n, 120]} if n % 2 else {})}
                for n in range(10)
            ]
            return await asyncio.gather(*(http.post("/recommend", json=b) for b in bodies))

    ranker = service.loaded.live.ranker
    for n, answer in enumerate(asyncio.run(many())):
        choice = ranker.choice(3, allow=[110 + n, 120]) if n % 2 else ranker.choice(3)
        want = ranker.top(np.array([n]), choice).ids[0]
        assert items(answer.json()["lists"][0]) == [100 + i for i in want if i >= 0]


def test_an_index_elsewhere_is_taken_up_with_its_run(models, tmp_path, caplog):
    """A new run waits for its index; the old one answers by its own until then."""
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    folder, place = tmp_path / "run", tmp_path / "indexes"

    def index():
        build(Live.load(folder).ranker, "hnsw", version_of(folder)).save(place)

    models("lightgcn").save(folder)
    index()
    read = partial(load, index=str(place))
    service = Service(read(folder), read)
    first = service.loaded.version
    models("mf").save(folder, overwrite=True)
    assert not service.look() and "belongs to another run" in caplog.text
    assert (service.loaded.version, service.failures) == (first, 1) and not service.look()
    index()
    assert service.look() and service.loaded.version == version_of(folder) != first
    want = models("mf").recommend([101], 5)
    ranker = service.loaded.live.ranker
    lists = service.loaded.top(ranker.find_users(pl.Series([101])), ranker.choice(5))
    assert ranker.train.items.decode(lists.ids[0]).to_list() == want["item"].to_list()
    assert not service.look()
    build(ranker, "hnsw", version_of(folder)).save(folder)  # one that is not asked for
    assert not service.look()


def test_the_usual_length_keeps_the_limit(service):
    app = make_app(service, Limits(k=3))

    async def lengths():
        async with client(app) as asked:
            found = [await asked.get("/recommend?user=103"), await asked.get("/similar?item=5")]
            found.append(await asked.post("/recommend", json={"users": [103]}))
        return [answer.status_code for answer in found], len(found[-1].json()["lists"][0]["items"])

    assert asyncio.run(lengths()) == ([200, 200, 200], 3)


def test_every_failure_is_told_whatever_failed_before(models, tmp_path, caplog):
    """An index folder that goes, comes back with two indexes, with the right one, and goes again."""
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    folder, place = tmp_path / "run", tmp_path / "indexes"
    models("lightgcn").save(folder)
    build(Live.load(folder).ranker, "hnsw", version_of(folder)).save(place)
    read = partial(load, index=str(place))
    service = Service(read(folder), read)
    told = []

    def look():
        caplog.clear()
        assert not service.look() and not service.look()
        told.append([record.message.split("indexes: ")[1][:24] for record in caplog.records])

    place.rename(tmp_path / "away")
    look()
    (tmp_path / "away").rename(place)
    look()
    (place / "index.faiss").touch()
    look()
    place.rename(tmp_path / "away")
    look()
    gone, several = "no such file or folder, ", "the folder holds several"
    assert told == [[gone], [], [several], [gone]]
    assert (service.failures, service.swaps) == (3, 0)


def test_a_run_that_would_crash_is_not_taken_up(models, tmp_path, caplog):
    """Its pairs reach beyond the table of items, which compiled code does not look at."""
    folder, new = tmp_path / "live", tmp_path / "new"
    models("mf").save(folder)
    models("lightgcn").save(new)
    service = Service(load(folder))
    before = service.loaded
    tensors, facts = read_tensors(new / "model.safetensors")
    tensors["train.indptr"][-1] = 5000
    del facts["crc32"]
    write_tensors(new / "model.safetensors", tensors, facts)
    for file in new.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert not service.look() and "train.indptr does not divide" in caplog.text
    users = before.live.ranker.find_users(before.live.ranker.known_users[:2])
    assert service.loaded is before and (service.swaps, service.failures) == (0, 1)
    assert len(service.loaded.top(users, before.live.ranker.choice(3)).ids) == 2


def test_a_run_that_is_being_written_is_not_taken_up(models, tmp_path, caplog):
    """A copy over the files in place: half of the model, all of it, and a change while it is read."""
    folder = tmp_path / "live"
    models("lightgcn").save(folder)
    models("mf").save(tmp_path / "new")
    service = Service(load(folder))
    for name in ("config.yaml", "history.jsonl", "ids.parquet", "metrics.json"):
        (folder / name).write_bytes((tmp_path / "new" / name).read_bytes())
    content = (tmp_path / "new/model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert not service.look() and f"bytes in the place of {len(content):,}" in caplog.text
    (folder / "model.safetensors").write_bytes(content)

    def written(live):
        (folder / "ids.parquet").touch()
        return {}

    service.read = partial(load, titles=written)
    assert not service.look() and "was written while it was read" in caplog.text
    service.read = load
    assert service.look() and service.loaded.live.trained.config.model["name"] == "mf"
    assert (service.swaps, service.failures) == (1, 2)


def test_answers_are_taken_for_what_they_are_and_not_kept(ask):
    """Those that were refused, too; only the page may be kept by a browser, and is asked for again."""
    paths = [
        "/recommend?user=103",
        "/history?user=104",
        "/users",
        "/health",
        "/metrics",
        "/no/such",
    ]
    for answer in [*(ask("get", path) for path in paths), ask("post", "/similar", content=b"[")]:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("cache-control") == ["no-store"]
    page = ask("get", "/").headers
    assert page["x-content-type-options"] == "nosniff"
    assert page.get_list("cache-control") == ["no-cache"]


@pytest.mark.parametrize("path", ["/health?x=1", "/metrics?x=1"])
def test_what_takes_no_parameter_refuses_any(ask, path):
    answer = ask("get", path)
    assert answer.status_code == 422 and answer.json() == {"detail": "query.x: no such parameter"}


JSON = {"content-type": "application/json"}


NO_IDS = [
    *("null", "1.5", '"\\ud800"', '""', "true", "[1]", f'"{513 * "x"}"'),
    *(str(2**63), str(-(2**63) - 1), "1e30", 600 * "9"),
]


@pytest.mark.parametrize("one", NO_IDS)
def test_what_is_no_id_is_said_in_words(ask, one):
    content = f'{{"users": [103, {one}]}}'.encode()
    answer = ask("post", "/recommend", content=content, headers=JSON)
    told = "body.users.1: must be an id: a whole number of 64 bits, or text of 1 to 512 characters"
    assert (answer.status_code, answer.json()["detail"]) == (422, told)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('{"users": [103], "users": [104]}', "'users'"),
        ('{"users": [103], "k": 3, "deny": [101], "k": 4}', "'k'"),
        ('{"users": [{"id": 1, "id": 2}]}', "'id'"),
        ('{"users": [103], "\\ud800": 1, "\\ud800": 1}', "'\\ud800'"),
        (f'{{"{"x" * 99}": 1, "{"x" * 99}": 1}}', f"'{'x' * 40}'"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(ask, content, key):
    answer = ask("post", "/recommend", content=content.encode(), headers=JSON)
    told = f"body: the key {key} is given more than once"
    assert (answer.status_code, answer.json()["detail"]) == (422, told)


def test_a_body_that_cannot_be_read_is_said_in_words(ask):
    for content in (b"[" * 4000, b'{"users": ["\xff"]}'):
        answer = ask("post", "/recommend", content=content, headers=JSON)
        assert answer.json()["detail"].startswith("body: not JSON that can be read"), answer.text


def test_the_page_offers_no_longer_list_than_may_be_asked_for(ask, service):
    assert 'max="50" value="10"' in ask("get", "/").text
    app = make_app(service, Limits(k=5))

    async def page():
        async with client(app) as http:
            return (await http.get("/")).text

    assert 'max="5" value="5"' in asyncio.run(page())
