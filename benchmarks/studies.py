"""Studies of konv alone: ``sweep`` (no cliff as work grows), ``threads``, ``dtypes``, ``floor``, and two more.

``choices`` times the chosen plan against the others, ``overhead`` a small call. The measurements are
``konv.bench.studies``. Each study prints a table and is kept in ``benchmarks/results/`` as JSON; a sweep also as
pictures. Run them on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import konv
from konv import bench, machine
from konv.bench import studies
from konv.bench.drawn import drawn
from konv.bench.lines import chart

HERE = Path(__file__).parent
LONG = 2e-3  # seconds: from here on a second thread must pay


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    limits = options.image, options.channels, options.batch
    found: dict[str, list[studies.Point]] = {}
    for name, grown in studies.sweeps(*limits).items():
        found[name] = points = studies.sweep(grown, options.rounds, options.ms / 1e3)
        steep, worse = studies.steepest(points), studies.cliff(points)
        print(f"\n{name}: slowest operation over the quickest {steep:.2f}, over the quickest before it {worse:.2f}")
        for point, cost in zip(points, studies.per_flop(points), strict=True):
            print(f"{point.size:>8}  {point.plan:<24}{point.seconds['konv'] * 1e3:>11.4f} ms{cost:>9.2f} ps a flop")
        sys.stdout.flush()
    for axis in dict.fromkeys(name.split(":")[0] for name in found):
        lines = {
            name.partition(": ")[2]: list(zip([p.size for p in points], studies.per_flop(points), strict=True))
            for name, points in found.items()
            if name.startswith(f"{axis}:")
        }
        title = f"Time for one operation of the direct sum, float32, {options.threads} threads, {machine.cpu()}"
        picture = options.results / f"sweep-{axis.replace(' ', '-')}-{options.threads}t-{konv.backends.current()}.svg"
        picture.write_text(chart(title, axis, "picoseconds", lines))
    worst = {name: {"steepest": studies.steepest(p), "cliff": studies.cliff(p)} for name, p in found.items()}
    return {"sweeps": worst, "points": {name: list(map(plain, points)) for name, points in found.items()}}


def threads(options: argparse.Namespace) -> dict[str, Any]:
    points = []
    words = (
        f"{'1 thread':>12}{options.threads:>4} threads{'speedup':>9}{'share':>7}   (ms; of the multipliers' speedup)"
    )
    print(f"{'layer':<18}{'plan':<24}{words}")
    for layer in chosen(options):
        point = studies.scaling(layer, (1, options.threads), options.rounds, options.ms / 1e3)
        one, more = point.seconds["1"], point.seconds[str(options.threads)]
        mark = "  below 1.8" if one > LONG and one / more < 1.8 else ""
        figures = f"{one * 1e3:>12.4f}{more * 1e3:>12.4f}{one / more:>9.2f}{point.share:>7.2f}{mark}"
        print(f"{layer.name:<18}{point.plan:<24}{figures}", flush=True)
        points.append(point)
    return {"points": list(map(plain, points))}


def dtypes(options: argparse.Namespace) -> dict[str, Any]:
    points = []
    print(f"{'layer':<18}" + "".join(f"{name:>12}" for name in studies.DTYPES) + "   rate over float32's")
    for layer in chosen(options):
        point = studies.by_dtype(layer, options.rounds, options.ms / 1e3)
        print(f"{layer.name:<18}" + "".join(f"{rate:>12.2f}" for rate in studies.rates(point).values()), flush=True)
        points.append(point)
    return {"points": list(map(plain, points))}


def floor(options: argparse.Namespace) -> dict[str, Any]:
    points = []
    precision = konv.get_float32_precision()
    konv.set_float32_precision("highest")  # direct sums
    print(
        f"{'layer':<18}{'plan':<24}{'ms':>12}{'GFLOP/s':>10}   share of what the multipliers, or copies, did meanwhile"
    )
    try:
        for layer in chosen(options, "floor"):
            point = studies.floor(layer, options.rounds, options.ms / 1e3)
            taken = point.seconds["konv"]
            figures = f"{taken * 1e3:>12.4f}{layer.flops / taken / 1e9:>10.1f}{point.share:>8.2f}"
            print(f"{layer.name:<18}{point.plan:<24}{figures}", flush=True)
            points.append(point)
    finally:
        konv.set_float32_precision(precision)
    return {"points": list(map(plain, points))}


def choices(options: argparse.Namespace) -> dict[str, Any]:
    points = []
    print(f"{'layer':<40}{'plan':<24}{'best plan':<24}{'times as long':>14}")
    for layer in islice(drawn(options.seed), options.layers):
        point = studies.choices(layer, options.rounds, options.ms / 1e3)
        best = min(point.seconds, key=lambda name: point.seconds[name])
        print(f"{layer.name:<40}{point.plan:<24}{best:<24}{studies.lost(point):>14.2f}", flush=True)
        points.append(point)
    print(f"\nchosen plans take {geometric_mean(map(studies.lost, points)):.3f} times as long as the best ones (mean)")
    return {"points": list(map(plain, points))}


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    point = studies.overhead(options.rounds, options.ms / 1e3)
    for name, taken in point.seconds.items():
        print(f"{name:<8}{taken * 1e6:>8.2f} us")
    print(f"Python over the kernel: {(point.seconds['konv'] - point.seconds['kernel']) * 1e6:.2f} us")
    return {"points": [plain(point)]}


def plain(point: studies.Point) -> dict[str, Any]:
    layer = point.layer
    shapes = {"input": layer.input_shape, "weight": layer.geometry.weight_shape, "flops": layer.flops}
    return {
        "name": layer.name,
        "plan": point.plan,
        "size": point.size,
        "seconds": point.seconds,
        "share": point.share,
        **shapes,
    }


def chosen(options: argparse.Namespace, usual: str = "layers") -> Iterable[bench.Layer]:
    return bench.read_layers(options.shapes or HERE / "shapes" / f"{usual}.txt")


STUDIES = {
    "sweep": sweep, "threads": threads, "dtypes": dtypes, "floor": floor, "choices": choices, "overhead": overhead,
}  # fmt: skip


def run(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", choices=list(STUDIES))
    parser.add_argument("--shapes", type=Path, help="layers.txt for threads and dtypes, floor.txt for floor")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ms", type=float, default=20.0, help="milliseconds timed in one turn")
    parser.add_argument("--image", type=int, default=4096, help="largest side of a sweep")
    parser.add_argument("--channels", type=int, default=2048, help="most channels of a sweep")
    parser.add_argument("--batch", type=int, default=256, help="largest batch of a sweep")
    parser.add_argument("--layers", type=int, default=200, help="layers that choices draws")
    parser.add_argument("--seed", type=int, default=0, help="of what choices draws")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args(words)
    options.results.mkdir(parents=True, exist_ok=True)
    konv.set_num_threads(options.threads)
    for name in options.studies:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        print(f"{name}: {machine.cpu()}, {konv.backends.current()}, {options.threads} threads, {date}\n")
        content = {
            "format": 1, "study": name, "date": date, "commit": machine.commit(), "cpu": machine.cpu(),
            "isa": konv.backends.current(), "konv": konv.__version__, "threads": options.threads,
            "settings": {"rounds": options.rounds, "seconds": options.ms / 1e3},
        }  # fmt: skip
        content |= STUDIES[name](options)
        path = options.results / f"study-{name}-{options.threads}t-{konv.backends.current()}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\nkept in {path}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run())
