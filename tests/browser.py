"""Pages opened in headless Chromium, cut off from everything but this machine.

A test module takes the fixtures `tab` and `serve` by `pytest_plugins = ["browser"]`. Where
Playwright or Chromium is not installed, `tab` skips the test; with REQUIRE_BROWSER set, as in CI,
it fails.
"""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: Chromium must not use a network by itself. Its sandbox does not start for root, nor its shared
#: memory if a container's /dev/shm is small.
FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-domain-reliability",
    "--no-pings",
    # Names resolve to nothing; loopback addresses are no names.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: Milliseconds for each wait: shared machines pause at times.
PATIENCE = 300_000


@dataclass
class Tab:
    """An open page and what went wrong in it.

    Attributes
    ----------
    page : playwright.sync_api.Page
    errors : list of str
        The console's errors, uncaught exceptions, and requests that failed.
    blocked : list of str
        Outside addresses that the page asked for, none of which was reached.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A Chromium that starts with an empty profile, as a Playwright browser context."""
    missing = None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "Playwright is not installed: pip install playwright"
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing = f"no Chromium on PATH, looked for {', '.join(PROGRAMS)}"
    if missing:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=program,
            headless=True,
            args=FLAGS,
            viewport={"width": 1400, "height": 900},
            timeout=PATIENCE,
        )
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(PATIENCE)
        yield context
        context.close()


@pytest.fixture
def tab(chromium):
    """A new page, whose requests to outside addresses are refused and recorded."""
    opened = Tab(chromium.new_page())

    def guard(route):
        if _is_here(route.request.url):
            route.continue_()
        else:
            opened.blocked.append(route.request.url)
            route.abort("blockedbyclient")

    def failed(request):
        opened.errors.append(f"{request.url}: {request.failure}")

    def answered(response):
        if response.status >= 400:
            opened.errors.append(f"{response.url}: status {response.status}")

    def said(message):
        if message.type == "error":
            opened.errors.append(message.text)

    opened.page.route("**/*", guard)
    opened.page.on("requestfailed", failed)
    opened.page.on("response", answered)
    opened.page.on("console", said)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    yield opened
    opened.page.close()


def _is_here(url):
    """Whether an address is on the loopback, or within the page itself."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "blob", "about"):
        return True
    try:
        return ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


@pytest.fixture
def serve():
    """A function that serves a folder on the loopback and returns its address, "http://…:port"."""
    with contextlib.ExitStack() as running:

        def start(folder):
            handler = functools.partial(_Quiet, directory=folder)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=server.serve_forever)
            # Undone in the opposite order.
            running.callback(server.server_close)
            running.callback(thread.join)
            running.callback(server.shutdown)
            thread.start()
            return f"http://127.0.0.1:{server.server_port}"

        yield start


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
