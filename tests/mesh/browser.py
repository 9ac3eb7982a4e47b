"""The page as a browser shows it: headless Chromium's document and picture."""
import shutil
import subprocess
import sys

import util

sys.path.append(str(util.ROOT / "tests/samples"))
import png  # noqa: E402 pylint: disable=wrong-import-position

CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1200,1100"]


def chromium(*options, folder, url):
    browser = shutil.which("chromium")
    assert browser, "chromium is not installed: see tools/packages.txt"
    return subprocess.run([browser, *CHROMIUM, f"--user-data-dir={folder / 'profile'}", *options, url], check=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def page_in_browser(url, folder):
    """(document after scripts as text, (width, height, {(r, g, b): pixels}))"""
    dom = chromium("--dump-dom", folder=folder, url=url)
    picture = folder / "page.png"
    chromium(f"--screenshot={picture}", folder=folder, url=url)
    return dom, png.colors(picture.read_bytes())
