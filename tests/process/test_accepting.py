from __future__ import annotations

import asyncio
import errno

import pytest
import structlog.testing

from exporter.web.server import throttle_accept_errors


async def test_what_else_goes_wrong_is_told_as_always(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    throttle_accept_errors(loop)
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            exhausted = OSError(errno.EMFILE, "Too many open files")
            loop.call_exception_handler({"message": "accept", "exception": exhausted, "socket": None})
        loop.call_exception_handler({"message": "another fault", "exception": OSError(errno.EMFILE, "elsewhere")})
    loop.set_exception_handler(None)
    assert [line["event"] for line in logs] == ["no new connection can be accepted"]
    assert [record.message for record in caplog.records] == ["another fault"]
