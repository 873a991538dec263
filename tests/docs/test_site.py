"""The site builds without a warning and without the network; its pictures show what the losses do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from make_pictures import FOLDER, pictured, points, row
from ssmrec import LOSSES

ROOT = Path(__file__).parents[2]
LOSSES_PAGE = (ROOT / "docs/losses.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built with every warning an error."""
    pytest.importorskip("material", reason="extra `docs` is not installed")
    pytest.importorskip("mkdocstrings", reason="extra `docs` is not installed")
    place = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place


class Assets(HTMLParser):
    """Addresses that a browser loads by itself."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"link": "href", "script": "src", "img": "src", "iframe": "src"}.get(tag)
        self.found += [value for name, value in attrs if name == wanted and value]


@pytest.mark.slow
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    for source in (ROOT / "docs").rglob("*.md"):
        page = site / source.relative_to(ROOT / "docs").with_suffix(".html")
        assert page.exists(), page
        loaded = Assets(page).found
        assert loaded and not [address for address in loaded if re.match(r"(https?:)?//", address)]


@pytest.mark.slow
def test_the_reference_has_the_public_names(site):
    import ssmrec

    text = (site / "api.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="ssmrec\.([\w.]+)"', text))
    last = {name.rpartition(".")[2] for name in ids}
    tables = {"LOSSES", "MODELS", "SAMPLERS", "__version__"}  # told in words
    assert set(ssmrec.__all__) - tables <= last
    assert {"fit", "evaluate", "recommend", "similar", "save"} <= last


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_ask_for_nothing(site, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "tutorial", "losses", "api", "howto/sql", "benchmarks"):
        page.goto(f"file://{site}/{name}.html")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide"
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_weights_of_the_softmax_are_the_softmax():
    found = row("ssm")
    both = torch.cat([torch.tensor([found.positive]), found.scores]) / 0.2
    assert torch.allclose(found.weights, torch.softmax(both, 0)[1:])


def test_weights_of_bpr_and_bce_are_the_sigmoid():
    found = row("bpr")
    assert torch.allclose(found.weights, torch.sigmoid(found.scores - found.positive) / 201)
    found = row("bce")
    assert torch.allclose(found.weights, torch.sigmoid(found.scores) / 202)


def test_weights_of_the_hinge_are_a_step():
    found = row("ccl")
    beyond = found.scores > 0.6 + 1e-9
    assert torch.allclose(found.weights, torch.where(beyond, 10 / 201, 0.0).double())


def test_pictures_and_shares_are_those_of_the_losses():
    assert set(LOSSES) - set(pictured()) == {"directau", "mawu", "invcf"}
    shares = dict(
        re.findall(r"^\| `(\w+)` \| !\[\w+\]\(pictures/\w+\.svg\) \| (\d+) %", LOSSES_PAGE, re.M)
    )
    assert list(shares) == pictured()
    for name in pictured():
        found = row(name)
        assert abs(100 * found.hardest - int(shares[name])) <= 0.6, name
        drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
        line = re.search(r'<polyline points="([^"]+)"', drawn)
        assert line is not None
        pairs = [tuple(map(float, pair.split(","))) for pair in line[1].split()]
        for at, want in zip(pairs, points(found), strict=True):
            assert at == pytest.approx(want, abs=0.6), name
