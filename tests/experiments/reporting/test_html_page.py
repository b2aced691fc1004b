import html.parser
import os
import re
import shutil
import subprocess

import pytest


def test_points_without_a_result_are_listed_and_escaped(page):
    for name in ("sphereface_m1.35_s32_seed0", "cosface_m0.35_s64_seed0"):
        assert name in page
    assert "&lt;b&gt;refused&lt;/b&gt;" in page and "<b>refused" not in page


def test_the_best_of_a_column_stands_out(page):
    assert {"81.00", "1.90"} <= set(re.findall(r'<td class="n best"[^>]*>([\d.]+)', page))


class References(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.found.append((tag, value))


def test_the_page_refers_to_nothing_outside_itself(page):
    parser = References()
    parser.feed(page)
    outside = [(t, v) for t, v in parser.found if not v.startswith(("#", "data:"))]
    assert not outside
    assert not [value for tag, value in parser.found if tag == "script"]
    assert not re.search(r"https?://|@import", page)
    assert all(target.startswith(("#", "data:")) for target in re.findall(r"url\(([^)]*)\)", page))
    assert len(parser.ids) == len(set(parser.ids)), "two figures share an id"
    internal = {v[1:] for _, v in parser.found if v.startswith("#")}
    assert internal <= set(parser.ids)


def test_a_browser_opens_the_page_without_an_error(page, tmp_path):
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium or Chrome on PATH")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={tmp_path}",
    )
    # A click on a heading runs the sorting script as a reader would.
    clicked = tmp_path / "clicked.html"
    click = "<script>document.querySelectorAll('th button')[3].click()</script></body>"
    clicked.write_text(page.replace("</body>", click), encoding="utf-8")
    done = subprocess.run(
        [browser, *flags, "--dump-dom", clicked.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert "Sweep report: margins" in done.stdout
    table = done.stdout[: done.stdout.index("</table>")]
    assert 'aria-sort="ascending"' in table
    cells = re.findall(r"<tr><td[^>]*>(?:<i[^>]*></i>)?([^<]*)", table)
    # Ascending TAR at FAR 1e-3; settings without a value follow in the order of the sweep.
    assert cells[:3] == ["norm_softmax s=32", "cosface m=0.35 s=32", "arcface m=0.5 s=32"]
