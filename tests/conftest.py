"""Fixtures used in several areas: real servers, one of each per test session (and worker)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest
import structlog

from exporter.runtime.redaction import redactor
from tests.real import tools
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.media import NodeMediaServer, running_nms2, running_nms4
from tests.real.prometheus import Prometheus, running_prometheus

# tests must not fail because the machine is busy, or because the first few examples are large
_SUPPRESSED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
_UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": _SUPPRESSED}
# tests must be reproducible; `make fuzz` looks for new failures
hypothesis.settings.register_profile("repeatable", derandomize=True, max_examples=50, **_UNHURRIED)
hypothesis.settings.register_profile("quick", derandomize=True, max_examples=10, **_UNHURRIED)
hypothesis.settings.register_profile("searching", derandomize=False, max_examples=300, **_UNHURRIED)
hypothesis.settings.load_profile("repeatable")

TESTS = Path(__file__).parent
SYSTEM_FOLDERS = {"attacks", "demo", "load", "packaging", "page", "process", "real"}
"""Folders of tests that run the exporter as a process, or build and install it."""
UNMEASURED_FOLDERS = SYSTEM_FOLDERS - {"demo"} | {"evidence", "faults", "service"}
"""Folders without coverage, which makes tests three times as slow. Other tests reach nearly all of their lines."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and order them for the workers of pytest-xdist."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in SYSTEM_FOLDERS:
            item.add_marker(pytest.mark.system)
        # property tests run the same lines many times; others reach these lines too
        if folder in UNMEASURED_FOLDERS or item.get_closest_marker("real") or item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = _start_with_long_tests(items, workers)


def _start_with_long_tests(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Deal the modules that start servers and processes to the workers, which run them before their other tests.

    Otherwise a few long tests would run alone at the end. pytest-xdist gives each worker an equal part of the list.
    """
    long: list[list[pytest.Item]] = [[] for _ in range(workers)]
    short: list[pytest.Item] = []
    places: dict[Path, int] = {}
    for item in items:
        if item.get_closest_marker("system") or item.get_closest_marker("real"):
            long[places.setdefault(item.path, len(places)) % workers].append(item)
        else:
            short.append(item)
    ordered: list[pytest.Item] = []
    for index, first in enumerate(long):
        size = (len(items) - len(ordered)) // (workers - index)
        rest = max(0, size - len(first))
        ordered += [*first, *short[:rest]]
        del short[:rest]
    return ordered + short


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    """Pause coverage for ``no_cover`` tests; pytest-cov pauses one of the three measurements of an xdist worker."""
    paused: list[coverage.Coverage] = []
    if item.get_closest_marker("no_cover"):
        while running := coverage.Coverage.current():
            running.stop()
            paused.append(running)
    try:
        return (yield)
    finally:
        for measurement in reversed(paused):
            measurement.start()


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the default state folder of exporters in tests away from the user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Reset logging after each test, because it writes to a stream that pytest closes."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def unwatched_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure coverage of subprocesses in load tests, because it makes them three times as slow."""
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def tools_only_in_real_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail tests that use a downloaded program without the marker ``real``, which ``make test-fast`` leaves out."""
    if not request.node.get_closest_marker("real"):
        monkeypatch.setattr(tools, "is_allowed", False)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the redactor for each test, because one test's secret may be a common word in another one."""
    monkeypatch.setattr(redactor, "_forms", dict(redactor._forms))
    monkeypatch.setattr(redactor, "_replacements", redactor._replacements)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="session")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with running_alertmanager(tmp_path_factory.mktemp("alertmanager")) as server:
        yield server


@pytest.fixture(scope="session")
def nms2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeMediaServer]:
    with running_nms2(tmp_path_factory.mktemp("nms2")) as server:
        yield server


@pytest.fixture(scope="session")
def nms4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeMediaServer]:
    with running_nms4(tmp_path_factory.mktemp("nms4")) as server:
        yield server
