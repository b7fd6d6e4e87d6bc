"""The performance dashboard: published from the kept results, and read in a real browser."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest

from benchmarks import publish

pytest_plugins = ["browser"]

SCREENSHOTS = publish.HTML.parent / "screenshots"

#: For each curve of the large graph: its label, the values drawn, and the pixels of its colour.
CURVES = """() => {
    const plot = $("#main-graph").data("plot");
    if (!plot) return [];
    const canvas = plot.getCanvas();
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return plot.getData().map(curve => {
        const [r, g, b] = $.color.parse(curve.color).toString().match(/\\d+/g).map(Number);
        let pixels = 0;
        for (let i = 0; i < data.length; i += 4)
            pixels += data[i] == r && data[i + 1] == g && data[i + 2] == b && data[i + 3] == 255;
        const values = curve.data.map(point => point[1]).filter(value => value !== null);
        return {label: curve.label, values: values, pixels: pixels};
    });
}"""

# --------------------------------------------------------------------------------------
# Publishing
# --------------------------------------------------------------------------------------


def package(folder, name, files):
    """An npm package as a file, in the place of one that was fetched before."""
    with tarfile.open(folder / f"{name}.tgz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))


def rewritten(tag, html, packages):
    return publish.OUTSIDE.sub(lambda found: publish._inside(html, packages, found), tag)


def test_a_library_lies_beside_the_page_and_is_what_the_page_wants(tmp_path):
    package(tmp_path, "jquery-3.3.1", {"dist/jquery.min.js": b"jQuery", "LICENSE.txt": b"MIT"})
    tag = (
        '<script src="https://example.org/jquery-3.3.1.min.js" integrity="{}" '
        'crossorigin="anonymous" onerror="js_load_failure()"></script>'
    )
    good = "sha256-A2Vj9iRWWNrlpSUpQmK34LnLOJfkK8VJRVkOQemTtVI="
    text = rewritten(tag.format(good), tmp_path / "html", tmp_path)
    assert text == (
        '<script src="vendor/jquery/package/dist/jquery.min.js" onerror="js_load_failure()">'
        "</script>"
    )
    assert (tmp_path / "html/vendor/jquery/package/dist/jquery.min.js").read_bytes() == b"jQuery"
    assert (tmp_path / "html/vendor/jquery/package/LICENSE.txt").exists()
    with pytest.raises(SystemExit, match=r"jquery@3\.3\.1: .* does not have the digest"):
        rewritten(tag.format("sha256-AAAA"), tmp_path / "html", tmp_path)


def test_an_unknown_library_is_an_error_and_not_an_outside_address(tmp_path):
    with pytest.raises(SystemExit, match=r"loads https://example\.org/new\.js, which"):
        rewritten('<script src="https://example.org/new.js">', tmp_path, tmp_path)


def test_what_the_page_does_not_load_stays(tmp_path):
    text = '<a href="https://example.org/jquery-3.3.1.min.js"><script src="asv.js">'
    assert rewritten(text, tmp_path, tmp_path) == text


# --------------------------------------------------------------------------------------
# The list of regressions
# --------------------------------------------------------------------------------------


def listed(entry):
    """Whether asv looks for a regression in this benchmark, by the configuration."""
    never = json.loads(publish.CONFIG.read_text())["regressions_first_commits"]
    return not any(re.match(pattern, entry) for pattern in never)


@pytest.mark.parametrize(
    "entry",
    [
        "ratio.Peers.track_ratio('forward', (64, 784, 256), 'float32', 1)@HEAD",
        "layer.Forward.time_forward('numba_linear', (64, 784, 256), 'float32', 1)@HEAD",
        "bits.Bits.track_bits('float32', 2)@HEAD",
        "start.FirstCall.track_first_call('empty')@HEAD",
        "start.Import.timeraw_import('numba_linear')@HEAD",
    ],
)
def test_a_regression_is_ours_and_steady(entry):
    assert listed(entry)


@pytest.mark.parametrize(
    "entry",
    [
        "ratio.Peers.track_ratio('forward', (64, 784, 256), 'float32', 2)@HEAD",
        "layer.Forward.time_forward('numba_linear', (64, 784, 256), 'float32', 2)@HEAD",
        "layer.Forward.time_forward('torch', (64, 784, 256), 'float32', 1)@HEAD",
        "compiled.Compiled.time_forward('np.dot', (1, 64, 64), 'float32')@HEAD",
        "start.Import.timeraw_import('numba')@HEAD",
        "limit.Limit.track_limit('forward', 'float32')@HEAD",
    ],
)
def test_a_peer_s_time_or_one_on_two_threads_is_no_regression(entry):
    assert not listed(entry)


# --------------------------------------------------------------------------------------
# In the browser
# --------------------------------------------------------------------------------------


def require(present, missing):
    """Skip if something is missing; fail in CI, which installs it."""
    if not present:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(missing)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """The published page's folder."""
    require(importlib.util.find_spec("asv"), "asv is not installed: pip install -e '.[bench]'")
    require(shutil.which("npm"), "npm is not installed: it fetches the page's libraries")
    root = publish.HERE.parent
    require((root / ".git").exists(), "not a git clone: the dashboard is of commits")
    shallow = subprocess.check_output(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=root, text=True
    )
    require(shallow.strip() == "false", "a shallow clone: the dashboard is of its older commits")
    folder = tmp_path_factory.mktemp("dashboard")
    # Without measurements that this machine may have made.
    kept = publish.HERE / "results"
    shutil.copytree(kept / "amd-epyc-2-cores", folder / "results" / "amd-epyc-2-cores")
    # `asv run` lists every benchmark there, even those without kept results.
    listed = subprocess.check_output(
        ["git", "show", "HEAD:benchmarks/results/benchmarks.json"], cwd=root
    )
    (folder / "results" / "benchmarks.json").write_bytes(listed)
    config = json.loads(publish.CONFIG.read_text())
    config |= {"repo": str(root), "results_dir": str(folder / "results")}
    (folder / "asv.conf.json").write_text(json.dumps(config))
    html = folder / "html"
    publish.publish(html, folder / "asv.conf.json")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return html


def test_the_page_names_no_outside_address(dashboard):
    assert not publish.OUTSIDE.search((dashboard / "index.html").read_text())


def test_curves_of_the_package_and_of_numpy(tab, serve, dashboard):
    page = tab.page

    def wait_for(*implementations):
        """Wait until the curves are those of exactly these implementations."""
        page.wait_for_function(
            f"""wanted => {{
                const names = ({CURVES})().map(curve => curve.label.match(/on-(\\w+)/)[1]);
                return new Set(names).size == wanted.length
                    && wanted.every(name => names.includes(name));
            }}""",
            arg=implementations,
        )

    def click(parameter, value):
        panels = page.locator("#graphdisplay-navigation-params .panel")
        heading = page.locator(".panel-heading", has_text=re.compile(f"^{parameter}$"))
        panels.filter(has=heading).get_by_role("button", name=value, exact=True).click()

    page.goto(f"{serve(dashboard)}/")
    page.wait_for_selector("#summarygrid-display .benchmark-plot canvas.flot-base")
    page.wait_for_load_state("networkidle")
    assert page.locator(".benchmark-group h1").all_inner_texts()[:2] == ["ratio", "bits"]
    page.screenshot(path=SCREENSHOTS / "grid.png")

    page.click("a.benchmark-container[href='#layer.Forward.time_forward']")
    wait_for("numba_linear", "numpy", "torch")
    click("implementation", "numpy")
    wait_for("numba_linear", "torch")
    click("implementation", "numpy")
    click("implementation", "torch")
    wait_for("numba_linear", "numpy")
    # From microseconds to milliseconds: on a linear scale the smallest hide each other.
    page.click("#log-scale")
    page.wait_for_function("!!$('#main-graph').data('plot').getYAxes()[0].options.transform")
    page.screenshot(path=SCREENSHOTS / "forward.png")

    curves = page.evaluate(CURVES)
    assert len({tuple(curve["values"]) for curve in curves}) == len(curves) >= 4
    for curve in curves:
        assert len(curve["values"]) >= 8, curve
        assert min(curve["values"]) > 0, curve
        assert curve["pixels"] > 50, curve

    assert tab.blocked == []
    assert tab.errors == []
