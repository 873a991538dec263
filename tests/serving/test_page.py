"""The page in a real browser, against a real server on loopback."""

from __future__ import annotations

import socket
import threading
import time

import pytest

# ruff: noqa: E402
pytest.importorskip("fastapi", reason="extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="extra `serve` is not installed")

from ssmrec.recommender import Recommender
from ssmrec.reporting.cells import score
from ssmrec.serving.app import make_app
from ssmrec.serving.service import Service, load


@pytest.fixture(scope="module")
def address(run):
    """A served run; item 101 has a title that is markup."""
    app = make_app(Service(load(run, {"101": "<img src=x onerror=alert(1)>", "100": "lamp"})))
    port = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def page(address, browser):
    page = browser.new_page()
    page.faults = []  # type: ignore[attr-defined]
    page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: (page.faults.append("dialog"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(address) else page.faults.append(r.url))
    page.goto(address)
    yield page


def rows(page, table):
    return [
        [cell.inner_text() for cell in row.query_selector_all("td")]
        for row in page.query_selector_all(f"#{table} tbody tr")
    ]


def test_a_person_types_a_user_and_sees_history_and_list(page, run):
    page.fill("input[name=user]", "104")
    page.fill("input[name=k]", "6")
    page.click("button")
    page.wait_for_selector("#list tbody tr")
    recommender = Recommender.load(run)
    want, train = recommender.recommend([104], 6), recommender.trained_.train
    shown = rows(page, "list")
    assert [row[0] for row in shown] == [str(item) for item in want["item"]]
    assert [row[2] for row in shown] == [score(value) for value in want["score"]]
    assert [int(row[3]) for row in shown] == [train.item_degrees[i - 100] for i in want["item"]]
    has = rows(page, "history")
    seen = recommender.trained_.seen.frame().filter(user=104)
    assert {row[0] for row in has} == {str(item) for item in seen["item"]}
    assert has[0][:2] == ["100", "lamp"]  # most popular first
    assert page.inner_text("#has") == f"Has ({len(seen)})"
    assert page.faults == []


def test_under_each_item_stands_what_it_is_recommended_for(page, live):
    page.fill("input[name=user]", "105")
    page.fill("input[name=k]", "3")
    page.click("button")
    page.locator("#list tbody tr:nth-child(3):last-child small").wait_for()
    frame = live.explain(105, k=3, reasons=2)
    titles = {100: "lamp", 101: "<img src=x onerror=alert(1)>"}
    for row in rows(page, "list"):
        reasons = frame.filter(item=int(row[0]))["reason"]
        told = ", ".join(titles.get(one, str(one)) for one in reasons)
        assert row[1].endswith(f"because of {told}")
    assert page.faults == []


def test_titles_are_text_and_run_nothing(page, run):
    seen = Recommender.load(run).trained_.seen
    count = seen.user_degrees[0]
    page.fill("input[name=user]", "100")
    page.fill("input[name=k]", "40")
    page.click("button")
    page.locator("#has", has_text=f"Has ({count})").wait_for()
    titles = [row[1] for row in rows(page, "history") + rows(page, "list")]
    assert "<img src=x onerror=alert(1)>" in titles
    assert page.query_selector("main img") is None and page.faults == []


def test_picking_and_unknown_users(page):
    page.fill("input[name=user]", "11")
    page.locator("#users option[value='119']").wait_for(state="attached")
    values = page.eval_on_selector_all("#users option", "all => all.map(one => one.value)")
    assert values == [str(n) for n in range(110, 120)]
    page.fill("input[name=user]", "nobody")
    page.click("button")
    page.locator("#gets", has_text="Most popular").wait_for()
    assert "does not know user nobody" in page.inner_text("#state")
    assert rows(page, "list")[0][0] == "100" and rows(page, "history") == []


def test_an_id_is_asked_for_as_it_is_typed(page):
    """With its blanks."""
    page.fill("input[name=user]", " pad  ")
    with page.expect_request("**/recommend?*") as asked:
        page.click("button")
    assert asked.value.url.partition("?")[2].startswith("user=+pad++&")
    page.locator("#state", has_text="know user pad").wait_for()
    assert "know user  pad  :" in page.text_content("#state")


def test_ids_of_64_bits_are_shown_digit_by_digit(page):
    ids = [2**60 + 1, -(2**62) - 3, 7]
    answer = {"run": "", "users": ids, "matches": 3}
    page.route("**/users?*", lambda route: route.fulfill(json=answer))
    page.fill("input[name=user]", "1")
    page.locator(f"#users option[value='{ids[0]}']").wait_for(state="attached", timeout=5000)
    values = page.eval_on_selector_all("#users option", "all => all.map(one => one.value)")
    assert values == [str(one) for one in ids]
    page.unroute("**/users?*")


def test_a_refused_question_is_told(page):
    page.fill("input[name=user]", "104")
    page.evaluate("document.querySelector('input[name=k]').removeAttribute('max')")
    page.fill("input[name=k]", "5000")
    page.click("button")
    page.wait_for_selector("#state.bad")
    assert "less than or equal to 1000" in page.inner_text("#state")


def test_a_blank_user_is_told_in_a_sentence(page):
    page.fill("input[name=user]", "  ")
    page.click("button")
    page.wait_for_selector("#state.bad")
    assert page.inner_text("#state") == "Type the id of a user, or pick one of the list."


@pytest.mark.parametrize(
    "value", [0.0, 0.1, 0.0999996, -0.0123456, 2.34567e-6, 1e-12, 280, -3.14159265]
)
def test_the_page_writes_scores_as_the_command_does(page, value):
    assert page.evaluate("score", value) == score(value)


def test_on_a_phone_the_list_comes_before_the_history(page, address):
    page.fill("input[name=user]", "104")
    page.click("button")
    page.wait_for_selector("#list tbody tr")

    def tops():
        return [page.locator(name).bounding_box()["y"] for name in ("#list", "#history")]

    wide = tops()
    page.set_viewport_size({"width": 390, "height": 800})
    phone = tops()
    assert wide[0] == wide[1] and phone[0] < phone[1] and phone[0] < 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 720})
