"""A server in this process: ``python -m bench.server MODULE ARGUMENTS``, for ``bench.serving``.

Prints the port of ``bench.<module>.serving(**arguments)``, then answers each line of its input, which names a command,
with a line of JSON. It ends with its input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from typing import Any

from bench.measuring import peak_bytes, resident_bytes

EVERYWHERE = {"cpu": time.process_time, "resident": resident_bytes, "peak": peak_bytes}


async def _serve(module: str, arguments: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with importlib.import_module(f"bench.{module}").serving(**arguments) as (port, commands):
        print(port, flush=True)
        while line := await lines.readline():
            answer = {**EVERYWHERE, **commands}[line.decode().strip()]()
            print(json.dumps(await answer if asyncio.iscoroutine(answer) else answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], json.loads(sys.argv[2])))
