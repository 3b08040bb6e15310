"""The one table of tolerances: how far a result may be from the exact one, relative to the largest value.

A sum of k products in a format of unit roundoff u errs by about sqrt(k)*u of the size of its terms; the transforms of
the default precision setting may err 16 times as much as a direct sum.
"""

from __future__ import annotations

import math

ROUNDOFF = {
    "float32": 2.0**-24,
    "float64": 2.0**-53,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "complex64": 2.0**-24,
    "complex128": 2.0**-53,
}
TRANSFORM = 16


def tolerance(dtype: str, terms: int) -> float:
    """Allowed |error| / max(1, max|result|) for sums of ``terms`` standard normal products in ``dtype``."""
    if dtype in ("float16", "bfloat16"):  # both sides sum in float32 and round once; PyTorch may round in between
        return 4 * ROUNDOFF[dtype]
    return TRANSFORM * ROUNDOFF[dtype] * max(8.0, 4 * math.sqrt(terms))
