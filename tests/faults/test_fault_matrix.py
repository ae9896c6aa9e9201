"""Every fault on every platform at once, against a real exporter process.

It is a single test, because one run of a minute covers everything. Each part names the cells that fail.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.matrix import FAULTS, HEALTHY
from tests.faults.matrix_run import Run, run_matrix
from tests.platforms.recordings import main_recordings
from tests.real.prometheus import check_metrics

INTERVAL_SECONDS = 4.0
MEMORY_BYTES = 100e6
"""Far less than is sent at the same time: four bodies of 100 MiB, four gzip bombs of 100 MiB, four endless lists."""


@pytest.mark.real
def test_every_fault_on_every_platform_has_its_expected_result(tmp_path: Path) -> None:
    run = run_matrix(tmp_path)
    assert run.exit_code == 0
    assert_results_are_expected(run)
    assert_recovery_with_the_next_poll(run)
    assert_unknown_is_never_off_air(run)
    assert_healthy_upstreams_are_unaffected(run)
    assert_exposition_is_valid(run)
    assert_probes_match_the_metrics(run)
    assert_memory_is_bounded(run)
    assert_no_secret_is_visible(run)
    assert run.followed_redirects == 0, "a redirect was followed"


def assert_results_are_expected(run: Run) -> None:
    wrong = {
        cell.name: f"{run.outcome(cell)}, not {cell.expected}"
        for cell in run.cells.values()
        if run.outcome(cell) != cell.expected
    }
    assert not wrong


def assert_recovery_with_the_next_poll(run: Run) -> None:
    assert run.cells.keys() - run.recovered.keys() == set()
    late = {cell.name: lost for cell in run.cells.values() if (lost := run.polls_lost_after_healing(cell)) > 1}
    assert not late, "polls that failed for the fault's reason after the healing; one may have been in flight"


def assert_unknown_is_never_off_air(run: Run) -> None:
    """A failed poll leaves ``stream_live`` unchanged, then absent, but never 0."""
    for cell in run.cells.values():
        if cell.expected.down is not None:
            for scrape in run.during:
                assert set(scrape.live(cell.name).values()) <= {1.0}, cell.name


def assert_healthy_upstreams_are_unaffected(run: Run) -> None:
    for platform in main_recordings():
        cell = run.cells[f"{platform}-{HEALTHY}"]
        own = dict.fromkeys(cell.api.labels, 1.0)
        assert all(scrape.live(cell.name) == own for scrape in run.during), cell.name
        # a busy machine may not respond within a poll's timeout
        assert {reason for reason, times in run.healed.failures(cell.name).items() if times} <= {"timeout"}
        polls = run.healing.polls(cell.name) - run.calm.polls(cell.name)
        due = (run.healing.at - run.calm.at) / INTERVAL_SECONDS
        # and may skip polls, but an upstream that waits for a broken one loses most of them
        assert polls >= due / 2, cell.name


def assert_exposition_is_valid(run: Run) -> None:
    for scrape in (run.calm, run.broken, run.healed):
        check_metrics(scrape.text)
    for family in text_string_to_metric_families(run.broken.text):
        assert all(math.isfinite(sample.value) or "le" in sample.labels for sample in family.samples), family.name


def assert_probes_match_the_metrics(run: Run) -> None:
    assert len(run.probes) > len(main_recordings())
    for name, (status, text) in run.probes.items():
        assert status == 200, name
        assert list(text_string_to_metric_families(text)), name
        is_down = run.cells[name].expected.down is not None
        assert f'upstream="{name}"}} {int(not is_down)}\n' in _family(text, "stream_upstream_up"), name
    longest = max((text for _, text in run.probes.values()), key=len)
    check_metrics(longest)


def _family(text: str, name: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith(f"{name}{{"))


def assert_memory_is_bounded(run: Run) -> None:
    most = max(scrape.memory for scrape in (*run.during, run.healed))
    print(f"memory: {run.calm.memory / 1e6:.0f} MB before, at most {most / 1e6:.0f} MB")
    assert most - run.calm.memory < MEMORY_BYTES


def assert_no_secret_is_visible(run: Run) -> None:
    assert "upstream is failing" in run.output
    assert "Traceback" not in run.output
    output = run.output + "".join(text for _, text in run.probes.values())
    assert visible(run.secrets, output) == []


def visible(secrets: set[str], output: str) -> list[str]:
    """Return the secrets in the output. Most of the 1,000 secrets begin alike, so look for their beginnings first."""
    shown = tuple(start for start in {secret[:12] for secret in secrets} if start in output)
    return [secret for secret in secrets if secret.startswith(shown) and secret in output]


def test_visible_secrets_are_found() -> None:
    secrets = {"canary-of-wave-first", "canary-of-wave-second", "short", "another-long-secret"}
    assert sorted(visible(secrets, "x canary-of-wave-second, short y")) == ["canary-of-wave-second", "short"]
    assert visible(secrets, "another-long and canary-of-wave-") == []


def test_exceptions_in_recordings_refer_to_existing_faults() -> None:
    names = {fault.name for fault in FAULTS}
    unknown = {platform: recording.faults.keys() - names for platform, recording in main_recordings().items()}
    assert {platform: found for platform, found in unknown.items() if found} == {}
