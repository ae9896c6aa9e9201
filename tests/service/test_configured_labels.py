"""Configured labels on /metrics and /probe of a whole exporter, also after a reload."""

from __future__ import annotations

from pathlib import Path

from exporter.runtime.clock import Clock
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app
from tests.service.exporter_harness import Exporter, exporting, serving
from tests.service.test_reload import Samples, all_up, configuration_of, series_of

SPORTS = {"team": 'the "sports" team \\ 1', "site": "north"}
NEWS = {"team": "news"}


def labels_of(samples: Samples, upstream: str) -> set[frozenset[tuple[str, str]]]:
    """Return the different sets of configured labels of an upstream's series."""
    return {
        frozenset((name, value) for name, value in labels if name in SPORTS)
        for _, labels in series_of(samples, upstream)
    }


async def probed(exporter: Exporter, upstream: str) -> set[str]:
    """Return the labels of the upstream's series in a probe, without its name."""
    text = await exporter.get(f"/probe?upstream={upstream}")
    return {line.partition("{")[2] for line in text.splitlines() if line.startswith("stream_upstream_up{")}


async def test_all_series_of_an_upstream_have_its_labels(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configuration_of(url, studio={"labels": SPORTS}, wave={"labels": NEWS})
        configuration["histograms"] = {"per_stream": True}
        async with exporting(tmp_path, configuration) as exporter:
            samples = await all_up(exporter)
            assert labels_of(samples, "studio") == {frozenset(SPORTS.items())}
            assert labels_of(samples, "wave") == {frozenset(NEWS.items())}
            assert labels_of(samples, "edge") == {frozenset()}
            escaped = r'site="north",team="the \"sports\" team \\ 1"'
            assert await probed(exporter, "studio") == {f'platform="livepeer",upstream="studio",{escaped}}} 1'}


async def test_defaults_give_labels_to_all_upstreams(tmp_path: Path) -> None:
    """The labels of an upstream replace those of the defaults as a whole."""
    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configuration_of(url, studio={"labels": NEWS}, wave={"labels": {}})
        configuration["defaults"]["labels"] = SPORTS
        async with exporting(tmp_path, configuration) as exporter:
            samples = await all_up(exporter)
            assert labels_of(samples, "edge") == {frozenset(SPORTS.items())}
            assert labels_of(samples, "studio") == {frozenset(NEWS.items())}
            assert labels_of(samples, "wave") == {frozenset()}


async def test_reload_changes_labels(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url:
        before = configuration_of(url, studio={"labels": SPORTS}, edge={"labels": SPORTS}, wave={"labels": SPORTS})
        after = configuration_of(url, studio={"labels": NEWS}, edge={"labels": SPORTS})
        async with exporting(tmp_path, before) as exporter:
            served = await all_up(exporter)
            await probed(exporter, "studio")
            exporter.write(after)
            await exporter.service.reload()
            at_once = await exporter.metrics()
            assert labels_of(at_once, "studio") <= {frozenset(NEWS.items())}
            assert labels_of(at_once, "wave") <= {frozenset()}
            assert series_of(served, "edge").keys() <= series_of(at_once, "edge").keys()
            samples = await all_up(exporter)
            assert labels_of(samples, "studio") == {frozenset(NEWS.items())}
            assert labels_of(samples, "wave") == {frozenset()}
            assert await probed(exporter, "studio") == {'platform="livepeer",upstream="studio",team="news"} 1'}


async def test_failed_probe_has_the_labels(tmp_path: Path) -> None:
    configuration = configuration_of("http://127.0.0.1:9", studio={"labels": NEWS, "timeout": "200ms"})
    async with exporting(tmp_path, configuration) as exporter:
        assert await probed(exporter, "studio") == {'platform="livepeer",upstream="studio",team="news"} 0'}
