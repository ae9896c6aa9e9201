"""Fixtures used in several areas: real servers, one of each per test session (and worker)."""

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest
import structlog

import exporter
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
LONG_MODULES = {
    "attacks/test_connection_attacks.py": 55,
    "attacks/test_dns_attacks.py": 40,
    "attacks/test_files_attacks.py": 35,
    "attacks/test_reload_attacks.py": 70,
    "attacks/test_response_attacks.py": 80,
    "alerting/test_evaluators_agree.py": 30,
    "alerting/test_groups_agree.py": 60,
    "alerting/test_healthy_hour.py": 85,
    "alerting/test_rule_files.py": 45,
    "alerting/test_scrape_scenarios.py": 75,
    "demo/test_demo.py": 30,
    "faults/test_fault_matrix.py": 90,
    "faults/test_fuzzed_platforms.py": 40,
    "load/test_many_clients.py": 30,
    "load/test_soak_attacks.py": 75,
    "load/test_soak_delivery.py": 85,
    "load/test_two_thousand_streams.py": 30,
    "packaging/test_distribution.py": 90,
    "page/test_page_browser.py": 105,
    "page/test_page_live.py": 50,
    "platforms/test_adding_a_platform.py": 40,
    "process/test_process_faults.py": 35,
    "real/test_alerting_real.py": 150,
    "real/test_delivery_real.py": 120,
    "real/test_final_real.py": 160,
    "real/test_icecast_real.py": 35,
    "real/test_nginx_rtmp_real.py": 70,
    "real/test_node_media_server_real.py": 110,
    "real/test_vmalert_real.py": 55,
    "real/test_web_real.py": 45,
    "real/test_whole_exporter.py": 90,
}
"""About how many seconds the longest modules take, mostly waiting; the workers start with them."""
_paused: list[coverage.Coverage] = []
SYSTEM_FOLDERS = {"attacks", "demo", "load", "packaging", "page", "process", "real"}
"""Folders of tests that run the exporter as a process, or build and install it."""
UNMEASURED_FOLDERS = SYSTEM_FOLDERS - {"demo"} | {"evidence", "faults", "service"}
"""Folders without coverage, which makes tests three times as slow. Other tests reach nearly all of their lines."""
UNMEASURED_MODULES = {
    "alerting/test_evaluator.py",
    "alerting/test_rule_files.py",
    "http/test_ratelimit.py",
    "http/test_response.py",
    "http/test_response_limits.py",
    "metrics/test_catalogue.py",
    "metrics/test_render_cache.py",
    "platforms/test_icecast.py",
    "platforms/test_livepeer_fields.py",
    "platforms/test_wave_endpoints.py",
    "polling/test_expected_hours.py",
    "reports/test_random_timelines.py",
    "sidecar/test_clock_steps.py",
    "sidecar/test_payload.py",
    "simulator/test_simulator_fleet.py",
    "web/test_attacks.py",
    "web/test_tls.py",
}
"""Modules that take long and reach hardly any line that no other test reaches."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and order them for the workers of pytest-xdist."""
    for item in items:
        path = item.path.relative_to(TESTS)
        if path.parts[0] in SYSTEM_FOLDERS:
            item.add_marker(pytest.mark.system)
        if _is_unmeasured(item, path):
            item.add_marker(pytest.mark.no_cover)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = _start_with_long_tests(items, workers)


def _is_unmeasured(item: pytest.Item, path: Path) -> bool:
    if path.parts[0] in UNMEASURED_FOLDERS or path.as_posix() in UNMEASURED_MODULES:
        return True
    # property tests run the same lines many times; others reach these lines too
    return any(item.get_closest_marker(name) for name in ("real", "slow", "hypothesis"))


def _start_with_long_tests(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Deal the modules that start servers and processes to the workers, which run them before their other tests.

    Otherwise a few long tests would run alone at the end. pytest-xdist gives each worker an equal part of the list.
    """
    modules: dict[str, list[pytest.Item]] = {}
    short: list[pytest.Item] = []
    for item in items:
        if any(item.get_closest_marker(name) for name in ("system", "real", "slow")):
            modules.setdefault(item.path.relative_to(TESTS).as_posix(), []).append(item)
        else:
            short.append(item)
    long: list[list[pytest.Item]] = [[] for _ in range(workers)]
    seconds = [0.0] * workers
    for name in sorted(modules, key=lambda name: -LONG_MODULES.get(name, len(modules[name]))):
        worker = seconds.index(min(seconds))
        long[worker] += modules[name]
        seconds[worker] += LONG_MODULES.get(name, len(modules[name]))
    ordered: list[pytest.Item] = []
    for index, first in enumerate(long):
        size = (len(items) - len(ordered)) // (workers - index)
        rest = max(0, size - len(first))
        ordered += [*first, *short[:rest]]
        del short[:rest]
    return ordered + short


# -- coverage ----------------------------------------------------------------------------------------------------------


def _pause_coverage() -> list[coverage.Coverage]:
    """Stop all measurements, of which a worker of pytest-xdist has three; pytest-cov's ``no_cover`` stops only one."""
    paused: list[coverage.Coverage] = []
    while running := coverage.Coverage.current():
        running.stop()
        paused.append(running)
    return paused


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Collect without coverage, which takes twice the CPU time in each worker; only imports have lines to cover."""
    if coverage.Coverage.current():
        for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    _paused.extend(_pause_coverage())
    return (yield)


@contextmanager
def _measured(item: pytest.Item) -> Iterator[None]:
    """Measure coverage, also of new processes, unless the test has the marker ``no_cover``."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("no_cover"):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        else:
            for measurement in reversed(_paused):
                measurement.start()
        try:
            yield
        finally:
            # pytest-cov starts its own one after a test with the marker
            if _paused:
                _pause_coverage()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[Any]:
    with _measured(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    with _measured(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[Any]:
    with _measured(item):
        return (yield)


# -- fixtures ----------------------------------------------------------------------------------------------------------


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
