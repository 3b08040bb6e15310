"""Measures the layers of ``benchmarks/shapes`` and keeps the results: what ``make bench`` calls.

The harness itself is ``konv.bench``. Every run goes to ``benchmarks/results/`` as JSON and as a picture, named by the
list of layers, mode, dtype, threads and instruction set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from konv import backends
from konv.cli import main

HERE = Path(__file__).parent


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=["layers"], help="names of files in benchmarks/shapes")
    parser.add_argument("--modes", nargs="*", default=["forward", "training"])
    parser.add_argument("--dtypes", nargs="*", default=["float32"])
    parser.add_argument("--threads", type=int, nargs="*", default=[2])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("rest", nargs="*", help="further options of konv bench, after --")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    for shapes in options.shapes:
        for dtype in options.dtypes:
            for threads in options.threads:
                for mode in options.modes:
                    stem = options.results / f"{shapes}-{mode}-{dtype}-{threads}t-{backends.current()}"
                    words = ["bench", str(HERE / "shapes" / f"{shapes}.txt"), "--mode", mode, "--dtype", dtype]
                    words += ["--threads", str(threads), "--json", f"{stem}.json", "--svg", f"{stem}.svg"]
                    if code := main(words + options.rest):
                        return code
                    print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run())
