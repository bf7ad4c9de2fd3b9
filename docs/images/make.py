"""The pictures of README and docs, from the report of a real run: headless Chromium, light and dark.

agentark report laptop && python docs/images/make.py agentark-home/reports/laptop/report.html
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
READY = "document.documentElement?.dataset.ready === 'true'"
TURNED_BOTH_WAYS = """
const flips = document.getElementById("flips");
flips.value = "both";
flips.dispatchEvent(new Event("change"));
"""


def main() -> None:
    """Write report-verdict.png, report-debate.png and report-phone.png beside this file."""
    from browser import Browser, browser
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="report.html of a run")
    page = parser.parse_args().page.resolve().as_uri()

    def take(tab: Browser, name: str) -> None:
        tab.screenshot(HERE / name)
        with Image.open(HERE / name) as shot:
            few = shot.convert("RGB").quantize(128)  # a third of the bytes
        few.save(HERE / name, optimize=True)

    def show_flip(tab: Browser) -> None:
        before = tab.eval("document.getElementById('count').textContent")
        tab.eval(TURNED_BOTH_WAYS)
        tab.wait(f"document.getElementById('count').textContent !== {json.dumps(before)}")
        tab.eval("document.querySelector('#list button').click()")
        tab.wait("document.querySelectorAll('#debate .flips li').length > 1")
        tab.eval("document.querySelector('#debate .flips button').click()")
        tab.wait("document.querySelector('#debate .story')")

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browser(Path(folder)) as tab:
        tab.size(1040, 1430)
        tab.open(page, ready=READY)
        take(tab, "report-verdict.png")
        tab.size(1240, 1510)
        show_flip(tab)
        tab.eval("document.getElementById('debates').scrollIntoView()")
        take(tab, "report-debate.png")
        tab.size(390, 844, scale=2, mobile=True)
        tab.media(theme="dark")
        tab.open(page, ready=READY)
        show_flip(tab)
        tab.eval("document.getElementById('debate').scrollIntoView()")
        take(tab, "report-phone.png")


if __name__ == "__main__":
    main()
