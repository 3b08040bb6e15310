"""The one benchmark harness: konv's Conv2d against other engines, checked for correctness before it is timed.

It lives in the package, not in ``benchmarks/``, so that ``konv bench`` measures a user's own layers after a plain
``pip install``; ``benchmarks/`` holds the lists of layers, the results and how to read them.
"""

from .harness import LayerResult, Run, Settings, measure
from .layers import Layer, parse_layer, read_layers
from .peers import PEERS, Peer
from .report import to_json, to_svg, to_text

__all__ = [
    "Layer",
    "LayerResult",
    "PEERS",
    "Peer",
    "Run",
    "Settings",
    "measure",
    "parse_layer",
    "read_layers",
    "to_json",
    "to_svg",
    "to_text",
]
