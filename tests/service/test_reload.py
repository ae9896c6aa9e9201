"""A reload keeps everything that did not change, and drops removed upstreams at once."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog.testing

from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.runtime.clock import Clock
from exporter.simulator.context import TOKEN
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app
from tests.exposition_text import Labels, samples
from tests.service import exporter_harness
from tests.service.exporter_harness import Exporter, exporting, serving

Samples = dict[tuple[str, Labels], float]


def series_of(samples: Samples, upstream: str) -> Samples:
    return {key: value for key, value in samples.items() if dict(key[1]).get("upstream") == upstream}


def counters(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if key[0].endswith(("_total", "_count", "_bucket"))}


def configuration_of(url: str, streams: int = 6, **upstreams: dict[str, Any]) -> dict[str, Any]:
    base = upstreams_config(Fleet(streams), url)
    known = {upstream["name"]: upstream | upstreams.get(upstream["name"], {}) for upstream in base["upstreams"]}
    return {"defaults": {"interval": "1s"}, "upstreams": list(known.values())}


async def all_up(exporter: Exporter, *upstreams: str) -> Samples:
    for upstream in upstreams or ("studio", "edge", "wave"):
        await exporter.reaches(1, "stream_upstream_up", upstream=upstream)
    return await exporter.metrics()


async def test_reload_keeps_unchanged_upstreams_restarts_changed_ones_and_drops_removed_ones(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configuration_of(url)) as exporter:
        before = await all_up(exporter)
        kept = exporter.service.coordinator("edge")
        after_configuration = configuration_of(url, studio={"ended_ttl": "1m"})
        after_configuration["upstreams"] = [u for u in after_configuration["upstreams"] if u["name"] != "wave"]
        exporter.write(after_configuration)
        await exporter.service.reload()
        at_once = await exporter.metrics()
        assert exporter.service.coordinator("edge") is kept
        assert series_of(at_once, "wave") == {}
        assert series_of(before, "edge").keys() <= series_of(at_once, "edge").keys()
        assert all(
            series_of(at_once, "edge")[key] >= value for key, value in counters(series_of(before, "edge")).items()
        )
        await exporter.reaches(1, "stream_upstream_up", upstream="studio")
        assert await exporter.value("stream_upstream_polls_total", upstream="studio") == 1
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 1


async def test_reload_updates_retired_upstreams(tmp_path: Path) -> None:
    def retired(samples: Samples) -> dict[str, float]:
        return {
            dict(labels)["upstream"]: value
            for (name, labels), value in samples.items()
            if name == "stream_upstream_retired"
        }

    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configuration_of(url)
        async with exporting(tmp_path, configuration | {"retired": ["old-edge"]}) as exporter:
            assert retired(await exporter.metrics()) == {"old-edge": 1}
            without_wave = [upstream for upstream in configuration["upstreams"] if upstream["name"] != "wave"]
            exporter.write({"upstreams": without_wave, "retired": ["wave", "old-edge"]})
            await exporter.service.reload()
            assert retired(await exporter.metrics()) == {"old-edge": 1, "wave": 1}
            exporter.write(configuration | {"retired": ["wave"]})
            with pytest.raises(ConfigError, match=r"retired\[0\]: this upstream is configured"):
                await exporter.service.reload()
            assert retired(await exporter.metrics()) == {"old-edge": 1, "wave": 1}
            exporter.write(configuration)
            await exporter.service.reload()
            assert retired(await exporter.metrics()) == {}


async def test_config_hash_changes_only_with_a_successful_reload(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configuration_of(url)
        async with exporting(tmp_path, configuration) as exporter:
            started = await exporter.value("stream_exporter_config_hash")
            assert started is not None
            assert 0 < started == int(started) < 2**48
            reversed_keys = {key: configuration[key] for key in reversed(configuration)}
            exporter.file.write_text(f"# unchanged\n{json.dumps(reversed_keys, indent=4)}")
            await exporter.service.reload()
            assert await exporter.value("stream_exporter_config_hash") == started
            exporter.write(configuration | {"upstreams": []})
            with pytest.raises(ConfigError):
                await exporter.service.reload()
            assert await exporter.value("stream_exporter_config_hash") == started
            exporter.write(configuration | {"alerting": {"thresholds": {"StreamUnhealthy": 0.3}}})
            await exporter.service.reload()
            assert await exporter.value("stream_exporter_config_hash") not in (None, started)


async def test_failed_reload_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configuration_of(url)) as exporter:
        before = await all_up(exporter)
        exporter.file.write_text("upstreams: [{name: x, platform: unheard-of}]")
        with pytest.raises(ConfigError, match="unheard-of"):
            await exporter.service.reload()
        after = await exporter.metrics()
        assert before.keys() - after.keys() == set()
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 0
        exporter.write(configuration_of(url))
        await exporter.service.reload()
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 1


async def test_simultaneous_reloads_leave_one_poller_per_upstream(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configuration_of(url)) as exporter:
        await all_up(exporter)
        exporter.write(configuration_of(url, edge={"ended_ttl": "1m"}))
        await asyncio.gather(*(exporter.service.reload() for _ in range(5)))
        await all_up(exporter)
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("poll ")]
        assert sorted(tasks) == ["poll edge", "poll studio", "poll wave"]


async def test_reload_adds_an_upstream_and_switches_histograms(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configuration_of(url)) as exporter:
        await all_up(exporter)
        more = configuration_of(url)
        more["upstreams"].append(more["upstreams"][0] | {"name": "second"})
        exporter.write(more)
        await exporter.service.reload()
        await exporter.reaches(1, "stream_upstream_up", upstream="second")
        exporter.write(more | {"histograms": {"per_stream": True}})
        await exporter.service.reload()
        await all_up(exporter)
        names = {key for key in await exporter.metrics() if key[0] == "stream_sampled_health_score_ratio_count"}
        assert all("stream" in dict(labels) for _, labels in names)


async def test_changed_secret_file_is_used_without_a_reload(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("wrong\n")
    token.chmod(0o600)
    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configuration_of(url, studio={"auth": {"bearer_token_file": str(token)}})
        async with exporting(tmp_path, configuration) as exporter:
            await exporter.reaches(0, "stream_upstream_up", upstream="studio")
            token.write_text(f"{TOKEN}\n")
            await exporter.reaches(1, "stream_upstream_up", upstream="studio")


@pytest.mark.system
@pytest.mark.no_cover
async def test_reloads_under_load_fail_no_scrape_and_lose_no_series(tmp_path: Path) -> None:
    fleet = Fleet(3000)
    async with serving(make_app(fleet, Clock())) as url:
        configuration = configuration_of(url, 3000)
        # two platforms with 1,000 streams each, because exporter, simulator and scraper share one event loop
        configuration["upstreams"] = [u for u in configuration["upstreams"] if u["name"] != "wave"]
        configuration["defaults"] = {"interval": "10s", "timeout": "10s", "stale_after": "10m"}
        async with exporting(tmp_path, configuration) as exporter:
            await all_up(exporter, "studio", "edge")
            reloading = asyncio.create_task(_reload_repeatedly(exporter, configuration))
            texts = await _scrape_until(reloading, exporter.url)
            await reloading
    assert len(texts) >= 5
    kept = [_samples("\n".join(line for line in text.splitlines() if 'upstream="edge"' in line)) for text in texts]
    for earlier, later in itertools.pairwise(kept):
        fallen = {key for key, value in counters(earlier).items() if later.get(key, 0.0) < value}
        # totals reported for a stream may restart, but the exporter's own counters must not
        assert {key for key in fallen if key[0].startswith(("stream_upstream", "stream_sampled"))} == set()
        live = {key for key in earlier if key[0] == "stream_live"}
        assert live - later.keys() == set()


async def _reload_repeatedly(exporter: Exporter, configuration: dict[str, Any]) -> None:
    for round_ in range(6):
        studio = {**configuration["upstreams"][0], "ended_ttl": f"{round_ + 1}m"}
        exporter.write(configuration | {"upstreams": [studio, *configuration["upstreams"][1:]]})
        await exporter.service.reload()
        await asyncio.sleep(0.5)


async def _scrape_until(done: asyncio.Task[None], url: str) -> list[str]:
    texts = []
    async with aiohttp.ClientSession() as session:
        while not done.done():
            async with session.get(f"{url}/metrics") as response:
                assert response.status == 200
                texts.append(await response.text())
            await asyncio.sleep(0.1)
    return texts


def _samples(text: str) -> Samples:
    return {(name, labels): value for name, labels, value in samples(text)}


async def test_replaced_coordinators_are_freed_one_at_a_time(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configuration_of(url)) as exporter:
        await all_up(exporter)
        coordinators = [exporter.service.coordinator(name) for name in ("studio", "edge", "wave")]
        replaced = [weakref.ref(coordinator) for coordinator in coordinators if coordinator is not None]
        coordinators.clear()
        exporter.write(configuration_of(url) | {"defaults": {"interval": "2s"}})
        reload = asyncio.create_task(exporter.service.reload())
        left = [len(replaced)]
        # an interrupted poll may leave a reference cycle, which only the garbage collector frees
        gc.disable()
        try:
            while not reload.done():
                await asyncio.sleep(0)
                left.append(sum(reference() is not None for reference in replaced))
        finally:
            gc.enable()
        await reload
        assert all(before - after <= 1 for before, after in itertools.pairwise(left))
        async with asyncio.timeout(60):
            while any(reference() is not None for reference in replaced):
                gc.collect()
                await asyncio.sleep(0.05)


async def test_log_names_every_changed_section(tmp_path: Path) -> None:
    upstream = {"platform": "storm", "url": "http://127.0.0.1:9", "discover": True}
    upstreams: list[dict[str, Any]] = [{"name": name, **upstream} for name in "abc"]
    before: dict[str, Any] = {"defaults": {"interval": "10s"}, "upstreams": upstreams}
    after = {
        "defaults": {"interval": "10s", "timeout": "3s"},
        "histograms": {"per_stream": True},
        "retired": ["a"],
        "alerting": {
            "thresholds": {"StreamUnhealthy": 0.3},
            "webhooks": [{"name": "hook", "url": "http://127.0.0.1:9"}],
        },
        "upstreams": [upstreams[1] | {"timeout": "5s"}, upstreams[2]],
    }
    async with exporting(tmp_path, before) as running:
        with structlog.testing.capture_logs() as logs:
            running.write(after)
            await running.service.reload()
            await running.service.reload()
        lines = [line["changed"] for line in logs if line["event"] == "configuration reloaded"]
    assert lines == [
        [
            "upstreams.a",
            "upstreams.b",
            "upstreams.c",
            "defaults.timeout",
            "histograms.per_stream",
            "retired",
            "alerting.thresholds",
            "alerting.webhooks",
        ],
        [],
    ]


async def test_concurrent_reloads_share_one_queued_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = {"upstreams": [{"name": "a", "platform": "storm", "url": "http://127.0.0.1:9", "discover": True}]}
    async with exporting(tmp_path, configuration) as running:
        loads, may_go_on = [], threading.Event()

        def load_slowly(file: Path, environ: Mapping[str, str]) -> Settings:
            loads.append(1)
            may_go_on.wait(30)
            return load_settings(file, environ)

        monkeypatch.setattr(exporter_harness, "load_settings", load_slowly)
        requested = [asyncio.create_task(running.service.reload())]
        async with asyncio.timeout(30):
            while not loads:  # noqa: ASYNC110 - a thread loads
                await asyncio.sleep(0.005)
        requested += [asyncio.create_task(running.service.reload()) for _ in range(1_000)]
        await asyncio.sleep(0)
        running.write(configuration | {"retired": ["old"]})
        may_go_on.set()
        await asyncio.gather(*requested)
        assert len(loads) == 2
        assert running.service.settings.retired == ("old",), "the queued reload reads the latest file"


async def test_failed_reload_is_reported_to_all_callers(tmp_path: Path) -> None:
    configuration = {"upstreams": [{"name": "a", "platform": "storm", "url": "http://127.0.0.1:9", "discover": True}]}
    async with exporting(tmp_path, configuration) as running:
        running.file.write_text("upstreams: []")
        results = await asyncio.gather(*(running.service.reload() for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [ConfigError] * 5
        impatient = asyncio.create_task(running.service.reload())
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        running.write(configuration)
        await running.service.reload()
