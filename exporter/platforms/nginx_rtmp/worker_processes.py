"""Detect that nginx has several worker processes, each of which reports only its own streams.

Source: ``ngx_rtmp_stat_module.c`` of nginx-rtmp-module: process id, uptime and totals are those of the worker process
that answers.
"""

from __future__ import annotations

from exporter.platforms.api import Record

RATE_WINDOW_SECONDS = 30.0
"""Seconds for which ``bw_in`` may still show the traffic of a stream that has ended; measured: 22 s."""


class WorkerProcesses:
    """The worker processes that have answered since the server started."""

    def __init__(self) -> None:
        self.doubt = ""
        """Why another process may have more streams; empty if there is no sign of that."""
        self._pids: set[int] = set()
        self._pid: int | None = None
        self._uptime: float | None = None
        self._streams_at: float | None = None
        """Steady seconds of the last response with a stream."""

    @property
    def are_several(self) -> bool:
        """Whether more than one process has answered."""
        return len(self._pids) > 1

    def observe(self, root: Record, *, has_streams: bool, now: float) -> bool:
        """Note which process answered. Return whether its totals cannot be compared with those of the last response.

        ``has_streams``: whether the response lists streams or players. ``now``: steady seconds.
        """
        pid, uptime = root.count("pid"), root.number("uptime", low=0.0)
        is_other = pid is not None and self._pid is not None and pid != self._pid
        has_restarted = uptime is not None and self._uptime is not None and uptime < self._uptime
        if has_restarted:
            self._pids.clear()
            self._streams_at = None
        if pid is not None:
            self._pids.add(pid)
            self._pid = pid
        self._uptime = self._uptime if uptime is None else uptime
        if has_streams:
            self._streams_at = now
        self.doubt = self._find_doubt(root, has_streams=has_streams, now=now)
        return is_other or has_restarted

    def _find_doubt(self, root: Record, *, has_streams: bool, now: float) -> str:
        if self.are_several:
            return "several worker processes, each of which lists only its own streams (worker_processes)"
        is_explained = has_streams or (self._streams_at is not None and now - self._streams_at <= RATE_WINDOW_SECONDS)
        if not is_explained and (root.number("bw_in") or root.number("bwin")):
            return "the server receives data, but lists no stream: another worker process may have it"
        return ""
