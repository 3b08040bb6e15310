"""Tries an installed konv, with no source tree near: python smoke.py TREE."""

import sys
from pathlib import Path

import konv
from konv import nn

where = Path(konv.__file__).resolve()
assert not where.is_relative_to(Path(sys.argv[1]).resolve()), f"konv came from the source tree: {where}"

konv.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
x = konv.randn(2, 3, 16, 16, requires_grad=True)
y = net(x)
assert y.shape == (2, 8, 8, 8)
y.sum().backward()
assert x.grad.shape == x.shape
images, labels = konv.data.mnist("test")
assert images.shape == (1000, 1, 28, 28)
for name in ("py.typed", "_core.pyi", "data/NOTICE.md"):
    assert (where.parent / name).is_file(), f"{name} is not in the wheel"
print(f"konv {konv.__version__} from {where.parent}")
