"""``python -m bench [PART …]``: all parts, or some of them."""

from __future__ import annotations

import argparse
import importlib

PARTS = ("exposition", "polling")


def main() -> None:
    """Run the parts that are named, all without a name."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--streams", type=int, action="append", help="how many; may be given again")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        if part not in PARTS:
            parser.error(f"there is no part {part}")
        module = importlib.import_module(f"bench.{part}")
        module.main(**({"sizes": arguments.streams} if arguments.streams else {}))


if __name__ == "__main__":
    main()
