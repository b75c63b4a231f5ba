"""Imports the module that is named; the last line says how many seconds that took and whether torch came along."""

from __future__ import annotations

import importlib
import json
import sys
import time


def main() -> None:
    started = time.perf_counter()
    importlib.import_module(sys.argv[1])
    print(json.dumps({"seconds": round(time.perf_counter() - started, 3), "torch": "torch" in sys.modules}))


if __name__ == "__main__":
    main()
