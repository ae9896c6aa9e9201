"""The example in docs/reports.md is what the exporter returns.

``python -m tests.reports.test_reports_page`` (in ``make generate``) writes it.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from exporter.model import HealthReason, Reason
from tests.reports.recording import EXPECTED_BITRATE, stream
from tests.reports.served_reports import served_reports

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
BEGIN, END = "<!-- example: written by make generate -->\n```markdown\n", "```\n<!-- end of the example -->"
EXAMPLE = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)
NAME = "live/final"


async def make_example(directory: Path) -> str:
    """Return the report on the hour that the page describes, for the page's configuration."""
    (config,) = re.findall(r"^```yaml\n(.+?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    async with served_reports(directory, config) as served:

        def backup(minutes: float, *, live: bool, viewers: int | None = None) -> None:
            state = stream(NAME, upstream="edge-b", live=live, expected=None, expected_bitrate=None, viewers=viewers)
            served.minutes(minutes, state, name="edge-b")

        def main(minutes: float, *, viewers: int, restarts: int = 0) -> None:
            state = stream(NAME, upstream="edge-a", bitrate=EXPECTED_BITRATE, viewers=viewers, restarts=restarts)
            served.minutes(minutes, state, name="edge-a")

        backup(0, live=True, viewers=40)
        main(12, viewers=2100)
        low = stream(NAME, upstream="edge-a", bitrate=0.4 * EXPECTED_BITRATE, reasons=[HealthReason.BITRATE_LOW])
        served.minutes(3, low, name="edge-a")
        served.minutes(2.5, stream(NAME, upstream="edge-a", live=False), name="edge-a")
        backup(1.75, live=False)
        main(0, viewers=1900, restarts=1)
        backup(20, live=True, viewers=450)
        silent = stream(NAME, upstream="edge-a", live=None)
        served.minutes(4, silent, name="edge-a", answering=False, reason=Reason.TIMEOUT)
        main(16.75, viewers=1650, restarts=1)
        _, text = await served.text("group=final&format=markdown")
        return text


async def test_example_on_the_page_is_what_the_exporter_returns(tmp_path: Path) -> None:
    (shown,) = EXAMPLE.findall(PAGE.read_text())
    assert shown == await make_example(tmp_path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        example = asyncio.run(make_example(Path(folder)))
    PAGE.write_text(EXAMPLE.sub(lambda _: example, PAGE.read_text()))
