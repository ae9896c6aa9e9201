"""Concurrent probes as by Prometheus, which has a connection per target."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.case_runner import Figures


def main(port: int, paths: Sequence[str], times: int) -> Figures:
    """Request each path several times over its own connection, concurrently; return the size of one body."""
    return {"bytes": asyncio.run(_asked(port, paths, times))}


async def _asked(port: int, paths: Sequence[str], times: int) -> int:
    return max(await asyncio.gather(*(_ask(port, path, times) for path in paths)))


async def _ask(port: int, path: str, times: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n\r\n".encode()
    size = 0
    for _ in range(times):
        writer.write(request)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().splitlines()
        assert status == b"http/1.1 200 ok", status
        size = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(size)
    writer.close()
    return size
