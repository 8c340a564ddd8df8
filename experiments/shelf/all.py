"""Every study of the shelf in turn, with the options of one, and then the table of their results.

python -m experiments.shelf.all --traces DIRECTORY
"""

import sys
import time
from importlib import import_module

from experiments.shelf.table import STUDIES, write


def main() -> int:
    """1 if a claim of any study fails."""
    failed: list[str] = []
    for name in STUDIES:
        began = time.monotonic()
        print(f"\n{name}", flush=True)
        if import_module(f"experiments.shelf.{name}.measure").main():
            failed.append(name)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    write()
    print(f"\nclaims fail in {', '.join(failed)}" if failed else "\nevery claim holds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
