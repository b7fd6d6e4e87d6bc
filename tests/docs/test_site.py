"""The site in a browser, on a desktop and on a phone, without a network."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

pytest_plugins = ["browser"]

ROOT = Path(__file__).parents[2]
HTML = ROOT / "docs" / "_build" / "html"
SCREENSHOTS = ROOT / "docs" / "_build" / "screenshots"
WIDTHS = {"desktop": 1280, "phone": 390}

#: Tags that fetch something, and the attributes that name it.
FETCHING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "use": ("href",),
}

#: Faults of a page's formulas: those without a size, fractions whose parts are not one above the
#: other, subscripts that are not below.
FORMULAS = """() => {
    const box = element => element.getBoundingClientRect();
    const shown = element => element.checkVisibility() && element.tagName != "mspace";
    const wrong = [];
    for (const formula of document.querySelectorAll("math")) {
        if (shown(formula) && (box(formula).width < 3 || box(formula).height < 5))
            wrong.push("empty: " + formula.textContent);
        for (const fraction of formula.querySelectorAll("mfrac"))
            if (box(fraction.children[0]).bottom > box(fraction.children[1]).top + 1)
                wrong.push("flat fraction: " + formula.textContent);
        for (const sub of formula.querySelectorAll("msub"))
            if (box(sub.children[1]).bottom <= box(sub.children[0]).bottom - 1)
                wrong.push("flat subscript: " + formula.textContent);
    }
    return wrong;
}"""

#: Pictures that did not load or are too small to be seen.
PICTURES = """() => [...document.images]
    .filter(image => !image.complete || image.naturalWidth == 0
        || image.getBoundingClientRect().width < 150)
    .map(image => image.src)"""


@pytest.fixture(scope="module")
def site():
    """The folder of the site, built anew if its sources have changed, without a warning."""
    if importlib.util.find_spec("sphinx") is None:
        missing = "Sphinx is not installed: pip install -e '.[docs]'"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    options = ["-W", "--keep-going", "-n", "-q"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", HTML],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return HTML


def pages(site):
    return sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))


class Reader(HTMLParser):
    """What a page fetches, and the names that links may point to."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in FETCHING.get(tag, ()):
                self.fetched.append(value)
            if name == "id":
                self.names.add(value)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_whole(width, site, serve, tab):
    address = serve(site)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.page.set_viewport_size({"width": WIDTHS[width], "height": 900})
    formulas = figures = 0
    for name in pages(site):
        tab.page.goto(f"{address}/{name}", wait_until="load")
        tab.page.evaluate("document.fonts.ready")
        assert tab.page.evaluate(FORMULAS) == [], name
        assert tab.page.evaluate(PICTURES) == [], name
        in_page = tab.page.locator("math").count()
        if in_page:
            assert tab.page.evaluate("document.fonts.check('16px \"STIX Two Math\"')"), name
        formulas += in_page
        figures += tab.page.locator("figure img").count()
        if not name.startswith("_modules"):
            across = tab.page.evaluate("document.documentElement.scrollWidth")
            assert across <= WIDTHS[width], f"{name} is {across} pixels wide"
        picture = f"{name.removesuffix('.html').replace('/', '.')}-{width}.png"
        tab.page.screenshot(path=SCREENSHOTS / picture, full_page=True)
    assert formulas > 100
    assert figures > 10
    assert tab.errors == []
    assert tab.blocked == []


def test_no_link_inside_the_site_is_broken(site):
    readers = {name: Reader((site / name).read_text()) for name in pages(site)}
    broken = []
    for name in readers:
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*)"', (site / name).read_text()):
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target, fragment = urldefrag(urljoin(f"/{name}", link))
            target = unquote(target).lstrip("/")
            if target in readers:
                if fragment and unquote(fragment) not in readers[target].names:
                    broken.append(f"{name}: {link}")
            elif not (site / target).is_file():
                broken.append(f"{name}: {link}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site):
    def outside(address):
        return bool(urlsplit(address).scheme not in ("", "data")) or address.startswith("//")

    found = []
    for name in pages(site):
        fetched = Reader((site / name).read_text()).fetched
        found += [f"{name}: {address}" for address in fetched if outside(address)]
    for sheet in site.rglob("*.css"):
        fetched = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", sheet.read_text())
        found += [f"{sheet.name}: {address}" for address in fetched if outside(address)]
    assert found == []


def test_search_finds_a_page(site, serve, tab):
    tab.page.goto(f"{serve(site)}/search.html?q=leaf", wait_until="load")
    # the results come one after the other
    tab.page.wait_for_selector("ul.search li a[href*='summation']")
    assert tab.errors == []
    assert tab.blocked == []
