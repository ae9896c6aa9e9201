"""The runbook page."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import exporter.web.ui
from exporter.alerting.annotations import runbook_url
from exporter.alerting.rules import RULES, Rule
from exporter.web.options import WebOptions
from tests.page.served_app import serve_app
from tools import runbook_html

FILE = Path(exporter.web.ui.__file__).parent / "static" / "runbook.html"


class Document(HTMLParser):
    """A parsed page: its elements and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [
            value
            for name, attributes in self.elements
            if tag in (None, name) and (value := attributes.get(attribute)) is not None
        ]


@pytest.fixture(scope="module")
def document() -> Document:
    return Document(FILE.read_text(encoding="utf-8"))


def test_committed_page_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == runbook_html.page(), "run: make generate"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_the_anchor_of_its_runbook_url_and_an_index_link(document: Document, rule: Rule) -> None:
    anchor = runbook_url(rule).partition("#")[2]
    assert anchor in document.values("id", "h3")
    assert f"#{anchor}" in document.values("href", "a")


def test_anchors_are_unique_and_every_link_has_one(document: Document) -> None:
    anchors = Counter(document.values("id"))
    assert max(anchors.values()) == 1
    inside = {href[1:] for href in document.values("href", "a") if href.startswith("#")}
    assert inside <= set(anchors)
    outside = {href for href in document.values("href") if not href.startswith("#")}
    assert outside == {"./streams", "./static/icon.svg", "./static/page.css", "./static/runbook.css"}


def test_page_complies_with_the_content_security_policy(document: Document) -> None:
    assert not {"script", "style", "iframe", "img"} & {tag for tag, _ in document.elements}
    attributes = {name for _, found in document.elements for name in found}
    assert not {name for name in attributes if name == "style" or name.startswith("on")}


def test_html_in_the_markdown_is_escaped() -> None:
    content = runbook_html.convert(
        "## A <b>\n\n| a |\n|---|\n| <script>alert(1)</script> |\n\n`<i>`\n\n<p onclick=x>\n"
    )
    assert {tag for tag, _ in Document(content).elements} == {
        "h2", "table", "thead", "tbody", "tr", "th", "td", "p", "code",
    }  # fmt: skip


def test_severities_are_badges_and_the_title_is_omitted() -> None:
    content = runbook_html.convert("# Runbook\n\nText\n\n| a |\n|---|\n| warning, critical |\n")
    assert "Runbook" not in content
    assert '<td><span class="badge warn">warning</span> <span class="badge bad">critical</span></td>' in content


@pytest.mark.parametrize("telemetry_path", ["/metrics", "/"])
async def test_page_is_served_as_committed_with_working_links(tmp_path: Path, telemetry_path: str) -> None:
    async with serve_app(tmp_path, options=WebOptions(telemetry_path=telemetry_path)) as served:
        async with served.session.get("/runbook#streamupstreamdown") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert await answer.read() == FILE.read_bytes()
        for link in Document(FILE.read_text(encoding="utf-8")).values("href"):
            if not link.startswith("#"):
                async with served.session.get(link.removeprefix(".")) as linked:
                    assert linked.status == 200, link


async def test_runbook_has_one_url(tmp_path: Path) -> None:
    async with serve_app(tmp_path) as served:
        for path in ("/runbook/", "/runbook/x", "/static/runbook.html"):
            async with served.session.get(path) as answer:
                assert answer.status == 404
