"""One case, in this process: ``python -m bench.case MODULE ARGUMENTS``, with the arguments and the answer as JSON."""

from __future__ import annotations

import importlib
import json
import sys

if __name__ == "__main__":
    print(json.dumps(importlib.import_module(f"bench.{sys.argv[1]}").main(**json.loads(sys.argv[2]))))
