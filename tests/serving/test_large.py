"""Large questions: the same lists as small ones, and other questions are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

# ruff: noqa: E402
pytest.importorskip("fastapi", reason="extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from ssmrec.errors import DataError
from ssmrec.ranking import Ranker
from ssmrec.serving import answers
from ssmrec.serving.app import make_app
from ssmrec.serving.messages import Limits
from ssmrec.serving.service import Service, load


class Watched(Ranker):
    """Tells which threads look at filters."""

    threads: list[int] = []

    def choice(self, k, **filters):
        self.threads.append(threading.get_ident())
        return super().choice(k, **filters)


@pytest.fixture
def service(run):
    loaded = load(run)
    old = loaded.live.ranker
    ranker = Watched(old.users, old.items, old.train, old.seen)
    Watched.threads.clear()
    return Service(replace(loaded, live=replace(loaded.live, ranker=ranker)))


def items(part):
    return [row["item"] for row in part["items"]]


def ask(service, **body):
    async def go():
        return await answers.recommend(service, body.pop("users", [103]), body.pop("k", 40), **body)

    return asyncio.run(go())["lists"]


def post(service, path="/recommend", **options):
    async def go():
        transport = httpx.ASGITransport(app=make_app(service, Limits()))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post(path, headers={"content-type": "application/json"}, **options)

    return asyncio.run(go())


def test_large_filters_are_looked_up_beside_the_event_loop(service):
    """10,000 items in each of three filters, 20 of them in allow and candidates and not denied."""
    rest = [f"no{n}" for n in range(9960)]
    allow, candidates = [*map(str, range(100, 130)), *rest], [*map(str, range(110, 140)), *rest]
    body = {"allow": allow, "candidates": candidates, "include_seen": True}
    (found,) = ask(service, **body, deny=["115", *rest])
    assert sorted(items(found)) == [n for n in range(110, 130) if n != 115]
    assert Watched.threads and threading.get_ident() not in Watched.threads
    Watched.threads.clear()
    small = ask(service, allow=[101, "102"])
    assert sorted(items(small[0])) == sorted({101, 102} - set(_had(service, 103)))
    assert Watched.threads == [threading.get_ident()]


def test_a_user_of_validation_only_is_not_offered_what_he_has(service):
    """103 without a training pair: what is popular, but for his items; strangers get those as well."""
    old = service.loaded.live.ranker
    train = old.train.take(old.train.rows != 3)
    ranker = Ranker(old.users, old.items, train, old.seen)
    service.loaded = replace(service.loaded, live=replace(service.loaded.live, ranker=ranker))
    body = {"users": [103, "ghost", 104, "0103"], "k": 5}
    his, ghost, known, other = post(service, json=body).json()["lists"]
    order = [100 + i for i in np.argsort(-train.item_degrees, kind="stable")]
    had = _had(service, 103)
    assert [part["known"] for part in (his, ghost, known, other)] == [False, False, True, False]
    assert items(ghost) == items(other) == order[:5]
    assert items(his) == [i for i in order if i not in had][:5] != order[:5]
    assert not set(items(known)) & set(_had(service, 104))
    (again,) = post(service, json={"users": [103], "include_seen": True}).json()["lists"]
    assert items(again) == order[:10]
    (folded,) = post(service, "/fold-in", json={"users": [["ghost"]], "k": 5}).json()["lists"]
    assert items(folded) == order[:5]


def _had(service, user):
    return service.loaded.live.ranker.seen.frame().filter(user=user)["item"].to_list()


@pytest.mark.parametrize("allow", [["110"], [110], [110.0], ["110", 5]])
@pytest.mark.parametrize("candidates", [["110", "111"], [110, 111]])
def test_allow_and_candidates_match_by_text(service, allow, candidates):
    (found,) = ask(service, allow=allow, candidates=candidates, include_seen=True)
    assert items(found) == [110]


def test_what_the_filters_leave_nothing_of_is_an_empty_list(service):
    known, unknown = ask(service, users=[103, "ghost"], allow=[110], candidates=["111"])
    assert known["known"] and items(known) == [] and items(unknown) == []
    with pytest.raises(DataError, match="candidates: the model knows none of its 2 items"):
        ask(service, allow=[110], candidates=["ghost", "spook"])
    with pytest.raises(DataError, match="allow: the model knows none of its 1 items"):
        ask(service, allow=["ghost"], candidates=[110])


def test_long_answers_are_those_of_python(service, models):
    """60 users and all items, titled and folded in: more rows than are made on the event loop."""
    everybody = service.loaded.live.ranker.known_users.to_list()
    found = post(service, json={"users": everybody, "k": 40, "include_seen": True, "details": True})
    want = models("lightgcn").recommend(everybody, 40, include_seen=True)
    lists = found.json()["lists"]
    assert sum(len(part["items"]) for part in lists) == len(want) == 2400 > answers.ASIDE
    rows = [(part["user"], row["item"], row["score"]) for part in lists for row in part["items"]]
    assert rows == list(want.select("user", "item", "score").iter_rows())
    assert found.headers["content-type"] == "application/json"
    liked = [[100 + n % 40, "ghost"] for n in range(200)]
    folded = post(service, "/fold-in", json={"users": liked, "k": 15}).json()["lists"]
    live = service.loaded.live
    alone, _ = live.fold_in([pl.Series([103])], live.ranker.choice(15))
    assert items(folded[3]) == items(folded[163]) == alone["item"].to_list()
    assert {len(part["items"]) for part in folded} == {15}
    assert [part["unknown_items"] for part in folded] == [["ghost"]] * 200
    near = post(service, "/similar", json={"items": list(range(100, 140)) * 2, "k": 40}).json()
    assert [len(part["items"]) for part in near["lists"]] == [39] * 80
    assert items(near["lists"][7]) == models("lightgcn").similar([107], 40)["similar"].to_list()


def test_an_answer_is_encoded_as_by_the_framework():
    content = {"run": 'a"b', "how": "ü", "lists": [{"items": [{"item": "é\\"}] * 3}, {"items": []}]}
    text = asyncio.run(answers.encoded(content)).decode()
    assert text == json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    assert json.loads(asyncio.run(answers.encoded({"run": "", "lists": []}))) == {
        "run": "",
        "lists": [],
    }
    with pytest.raises(ValueError, match="Out of range"):
        asyncio.run(answers.encoded({"run": "", "lists": [{"items": [np.nan]}]}))


@pytest.mark.parametrize("k", ['"2"', "true", "2.5", "null"])
def test_a_length_is_a_number(service, k):
    answer = post(service, content=f'{{"users": [103], "k": {k}}}'.encode())
    assert answer.status_code == 422 and answer.json()["detail"].startswith("body.k: ")


def test_a_whole_float_is_a_length_and_broken_json_is_said(service):
    assert len(items(post(service, content=b'{"users": [103], "k": 2.0}').json()["lists"][0])) == 2
    for content, at in ((b"{", 1), (b'{"users": [1,]}', 13)):
        answer = post(service, content=content)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(f"body: not JSON, from character {at} on (")
