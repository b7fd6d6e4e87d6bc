"""Publish the dashboard so that it opens with no network: `python -m benchmarks.publish`.

`asv publish` writes a page that loads jQuery, flot and Bootstrap from the network. Here the same
libraries are taken from their npm packages and put beside the page.
"""

import argparse
import base64
import functools
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import sys
import tarfile
import webbrowser
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CONFIG = HERE / "asv.conf.json"
HTML = HERE / ".asv" / "html"
PACKAGES = HERE / ".asv" / "npm"


class Library(NamedTuple):
    """A file of an npm package.

    Attributes
    ----------
    package : str
        Name and version.
    file : str
    integrity : str
        Its digest, if asv's page has none of the same file, since it names a minified file that
        the package lacks, or another version.
    """

    package: str
    file: str
    integrity: str = ""


#: By the last part of the address on asv's page.
LIBRARIES = {
    "jquery-3.3.1.min.js": Library("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": Library(
        "flot@0.8.3",
        "jquery.flot.js",
        "sha256-t7kx8nPDixJ3ucbB9OBcTsCYhaSHvdrzJ54tfkmjjhI=",
    ),
    "jquery.flot.time.min.js": Library(
        "flot@0.8.3",
        "jquery.flot.time.js",
        "sha256-pYLIMq3HE4prBar2HxbrrCdHAfG+Sv6nfnOaHDS5xBo=",
    ),
    "jquery.flot.selection.min.js": Library(
        "flot@0.8.3",
        "jquery.flot.selection.js",
        "sha256-5shfbB6+S02inYriOMfFBgKD8F9+8FT2uRgX0CwJKRg=",
    ),
    "jquery.flot.categories.min.js": Library(
        "flot@0.8.3",
        "jquery.flot.categories.js",
        "sha256-boFmSyjqeVxzSQb0qhVhRkCnWsf705mn+5CEBAaYNRo=",
    ),
    "jquery.flot.orderBars.js": Library("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": Library(
        "stupid-table-plugin@1.1.3",
        "stupidtable.min.js",
        "sha256-RkI4Dyjr6e18rCUXk7KB74YgxDhiBdkniPmxL1zOtOA=",
    ),
    "md5.min.js": Library("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": Library("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": Library("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}

#: A script or style from elsewhere: its tag, and in it the address.
OUTSIDE = re.compile(r'<(?:script|link)\b[^>]*\b(?:src|href)="(https?://[^"]+)"[^>]*>')

#: What else is taken from a package: its licence, and the fonts that Bootstrap's style names.
BESIDE = r"|LICENSE(\..*)?|dist/fonts/.*"

GUARDS = re.compile(r'\s(?:crossorigin|referrerpolicy|integrity)="[^"]*"')

#: Groups with which the grid begins; the others follow by name.
FIRST = ("ratio", "bits")


def publish(html: Path = HTML, config: Path = CONFIG, packages: Path = PACKAGES) -> None:
    """Write the whole page to the folder `html`, keeping the npm packages in `packages`."""
    subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--config", config, "--html-dir", html.resolve()],
        check=True,
    )
    index = html / "index.html"
    index.write_text(OUTSIDE.sub(functools.partial(_inside, html, packages), index.read_text()))
    data = html / "index.json"
    contents = json.loads(data.read_text())
    contents["benchmarks"] = {
        name: contents["benchmarks"][name] for name in sorted(contents["benchmarks"], key=_place)
    }
    data.write_text(json.dumps(contents))


def _place(benchmark: str) -> tuple[int, str]:
    """The place of a benchmark in the grid."""
    group = benchmark.split(".")[0]
    return FIRST.index(group) if group in FIRST else len(FIRST), benchmark


def _inside(html: Path, packages: Path, tag: re.Match[str]) -> str:
    """Put the tag's file beside the page, and return the tag with that address."""
    address = tag[1]
    library = LIBRARIES.get(address.rsplit("/", 1)[1])
    if library is None:
        raise SystemExit(f"asv's page loads {address}, which {__name__} has no npm package for")
    folder = html / "vendor" / library.package.split("@")[0]
    wanted = re.compile(re.escape(library.file) + BESIDE)
    with tarfile.open(_fetched(library.package, packages)) as archive:
        members = [each for each in archive if wanted.fullmatch(each.name.partition("/")[2])]
        archive.extractall(folder, members, filter="data")
    file = folder / "package" / library.file
    named = re.search(r'integrity="([^"]*)"', tag[0])
    expected = library.integrity or (named[1] if named else "")
    if not expected or _digest(file, expected.split("-")[0]) != expected:
        raise SystemExit(
            f"{library.package}: {library.file} does not have the digest {expected!r}"
        )
    # The digest was checked here. A page that is opened as a file has no origin to compare.
    return GUARDS.sub("", tag[0]).replace(address, file.relative_to(html).as_posix())


def _fetched(package: str, packages: Path) -> Path:
    """The archive of an npm package, fetched once from the registry that npm is set to."""
    archive = packages / f"{package.replace('@', '-')}.tgz"
    if not archive.exists():
        if shutil.which("npm") is None:
            raise SystemExit("npm is not installed: it fetches the libraries that the page needs")
        packages.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", packages.resolve(), package],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return archive


def _digest(file: Path, algorithm: str) -> str:
    """As a page's `integrity` writes it."""
    digest = hashlib.new(algorithm, file.read_bytes()).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def main() -> None:
    """Publish, and if asked to, serve the page to this machine only."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("--open", action="store_true", help="serve it here and open a browser")
    parser.add_argument("--html", type=Path, default=HTML, help="the folder to write")
    arguments = parser.parse_args()
    publish(arguments.html)
    if not arguments.open:
        print(f"Written to {arguments.html}. To read it, serve it: it opens no files by itself.")
        print("  python -m benchmarks.publish --open")
        return
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=arguments.html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"Serving {address} until interrupted")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
