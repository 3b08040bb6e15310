"""Records PyTorch's random streams in ``random.npz``: run with PyTorch 2.13 installed, from this directory.

python record_random.py
"""

from __future__ import annotations

import numpy as np
import torch

SEED = 2024


def main() -> None:
    records: dict[str, np.ndarray] = {}
    for kind in ("float32", "float64", "float16", "bfloat16"):
        dtype = getattr(torch, kind)
        for name, make in (("rand", torch.rand), ("randn", torch.randn)):
            for count in (5, 16, 37):
                torch.manual_seed(SEED)
                values = make(count, dtype=dtype)
                wide = values.double() if kind == "float64" else values.float()
                records[f"{name}_{kind}_{count}"] = wide.numpy()
        torch.manual_seed(SEED)
        weight = torch.nn.Linear(7, 3, dtype=dtype)
        wide = torch.float64 if kind == "float64" else torch.float32
        records[f"linear_weight_{kind}"] = weight.weight.detach().to(wide).numpy()
        records[f"linear_bias_{kind}"] = weight.bias.detach().to(wide).numpy()
        torch.manual_seed(SEED)
        layer = torch.nn.Conv2d(4, 6, (3, 2), groups=2, dtype=dtype)
        records[f"conv_weight_{kind}"] = layer.weight.detach().to(wide).numpy()
        records[f"conv_bias_{kind}"] = layer.bias.detach().to(wide).numpy()
    torch.manual_seed(SEED)
    records["randint"] = torch.randint(-5, 1000, (20,)).numpy()
    records["randint_wide"] = torch.randint(0, 2**40, (20,)).numpy()
    records["randperm"] = torch.randperm(50).numpy()
    records["bernoulli"] = torch.empty(30).bernoulli_(0.3).numpy()
    records["state"] = torch.get_rng_state().numpy()
    np.savez_compressed("random.npz", **records)


if __name__ == "__main__":
    main()
