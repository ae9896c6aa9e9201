"""Reloading loses nothing of what did not change, and drops at once what left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.config.loading import ConfigError
from exporter.runtime.clock import Clock
from exporter.simulator.context import TOKEN
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app
from tests.service.exporter_harness import Exporter, Labels, exporting, serving

Samples = dict[tuple[str, Labels], float]


def of(samples: Samples, upstream: str) -> Samples:
    return {key: value for key, value in samples.items() if dict(key[1]).get("upstream") == upstream}


def counters(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if key[0].endswith(("_total", "_count", "_bucket"))}


def configured(url: str, streams: int = 6, **upstreams: dict[str, Any]) -> dict[str, Any]:
    base = upstreams_config(Fleet(streams), url)
    known = {upstream["name"]: upstream | upstreams.get(upstream["name"], {}) for upstream in base["upstreams"]}
    return {"defaults": {"interval": "1s"}, "upstreams": list(known.values())}


async def all_up(exporter: Exporter, *upstreams: str) -> Samples:
    for upstream in upstreams or ("studio", "edge", "wave"):
        await exporter.reaches(1, "stream_upstream_up", upstream=upstream)
    return await exporter.metrics()


async def test_the_unchanged_keeps_everything_the_changed_begins_anew_the_removed_leaves(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configured(url)) as exporter:
        before = await all_up(exporter)
        kept = exporter.service.coordinator("edge")
        after_configuration = configured(url, studio={"ended_ttl": "1m"})
        after_configuration["upstreams"] = [u for u in after_configuration["upstreams"] if u["name"] != "wave"]
        exporter.write(after_configuration)
        await exporter.service.reload()
        at_once = await exporter.metrics()
        assert exporter.service.coordinator("edge") is kept
        assert of(at_once, "wave") == {}
        assert of(before, "edge").keys() <= of(at_once, "edge").keys()
        assert all(of(at_once, "edge")[key] >= value for key, value in counters(of(before, "edge")).items())
        await exporter.reaches(1, "stream_upstream_up", upstream="studio")
        assert await exporter.value("stream_upstream_polls_total", upstream="studio") == 1
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 1


async def test_a_bad_file_changes_nothing_and_shows(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configured(url)) as exporter:
        before = await all_up(exporter)
        exporter.file.write_text("upstreams: [{name: x, platform: unheard-of}]")
        with pytest.raises(ConfigError, match="unheard-of"):
            await exporter.service.reload()
        after = await exporter.metrics()
        assert before.keys() - after.keys() == set()
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 0
        exporter.write(configured(url))
        await exporter.service.reload()
        assert await exporter.value("stream_exporter_config_last_reload_successful") == 1


async def test_two_reloads_at_once(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configured(url)) as exporter:
        await all_up(exporter)
        exporter.write(configured(url, edge={"ended_ttl": "1m"}))
        await asyncio.gather(*(exporter.service.reload() for _ in range(5)))
        await all_up(exporter)
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("poll ")]
        assert sorted(tasks) == ["poll edge", "poll studio", "poll wave"]


async def test_an_added_upstream_and_changed_histograms(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configured(url)) as exporter:
        await all_up(exporter)
        more = configured(url)
        more["upstreams"].append(more["upstreams"][0] | {"name": "second"})
        exporter.write(more)
        await exporter.service.reload()
        await exporter.reaches(1, "stream_upstream_up", upstream="second")
        exporter.write(more | {"histograms": {"per_stream": True}})
        await exporter.service.reload()
        await all_up(exporter)
        names = {key for key in await exporter.metrics() if key[0] == "stream_sampled_health_score_ratio_count"}
        assert all("stream" in dict(labels) for _, labels in names)


async def test_a_secrets_file_is_read_again_without_any_reload(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("wrong\n")
    token.chmod(0o600)
    async with serving(make_app(Fleet(6), Clock())) as url:
        configuration = configured(url, studio={"auth": {"bearer_token_file": str(token)}})
        async with exporting(tmp_path, configuration) as exporter:
            await exporter.reaches(0, "stream_upstream_up", upstream="studio")
            token.write_text(f"{TOKEN}\n")
            await exporter.reaches(1, "stream_upstream_up", upstream="studio")


@pytest.mark.no_cover
async def test_under_load_no_scrape_fails_no_counter_falls_no_series_is_missing(tmp_path: Path) -> None:
    fleet = Fleet(3000)
    async with serving(make_app(fleet, Clock())) as url:
        configuration = configured(url, 3000)
        # two platforms that list 1,000 streams each: one loop carries exporter, simulator and scraper here
        configuration["upstreams"] = [u for u in configuration["upstreams"] if u["name"] != "wave"]
        configuration["defaults"] = {"interval": "10s", "timeout": "10s", "stale_after": "10m"}
        async with exporting(tmp_path, configuration) as exporter:
            await all_up(exporter, "studio", "edge")
            reloading = asyncio.create_task(_reload_again_and_again(exporter, configuration))
            texts = await _scrape_until(reloading, exporter.url)
            await reloading
    assert len(texts) >= 5
    kept = [of(_samples(text), "edge") for text in texts]
    for earlier, later in itertools.pairwise(kept):
        fallen = {key for key, value in counters(earlier).items() if later.get(key, 0.0) < value}
        # a stream's own totals begin anew with a publish; what the exporter counts never does
        assert {key for key in fallen if key[0].startswith(("stream_upstream", "stream_sampled"))} == set()
        live = {key for key in earlier if key[0] == "stream_live"}
        assert live - later.keys() == set()


async def _reload_again_and_again(exporter: Exporter, configuration: dict[str, Any]) -> None:
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
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_changed_is_freed_one_upstream_after_the_other(tmp_path: Path) -> None:
    async with serving(make_app(Fleet(6), Clock())) as url, exporting(tmp_path, configured(url)) as exporter:
        await all_up(exporter)
        coordinators = [exporter.service.coordinator(name) for name in ("studio", "edge", "wave")]
        former = [weakref.ref(coordinator) for coordinator in coordinators if coordinator is not None]
        coordinators.clear()
        exporter.write(configured(url) | {"defaults": {"interval": "2s"}})
        reload = asyncio.create_task(exporter.service.reload())
        left = [len(former)]
        # a poll that was under way may leave a cycle: what only the collector frees is none of the steps
        gc.disable()
        try:
            while not reload.done():
                await asyncio.sleep(0)
                left.append(sum(reference() is not None for reference in former))
        finally:
            gc.enable()
        await reload
        assert all(before - after <= 1 for before, after in itertools.pairwise(left))
        async with asyncio.timeout(60):
            while any(reference() is not None for reference in former):
                gc.collect()
                await asyncio.sleep(0.05)
