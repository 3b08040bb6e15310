"""PyTorch's CPU random stream: the same seed gives the same numbers.

A ``Generator`` is the Mersenne Twister mt19937 (NumPy's own, started as Knuth's ``init_genrand``), read as PyTorch
reads it:

=============  ==============================================================================================
float32        the low 24 bits of one 32-bit word, times 2**-24; float16 and bfloat16 are rounded from these
float64        the low 53 bits of two words (the first is the high half), times 2**-53
U(low, high)   ``fma(u, high - low, low)``, rounded once, as PyTorch's vectorised builds do
normal         Box-Muller; 16 values or more in one memory block: 8 cosines, then their 8 sines;
               fewer: one at a time in float64, the sine kept for the next call
integers       one word (range under 2**28) or two words, modulo the range
permutation    Fisher-Yates from the front
=============  ==============================================================================================

Source: M. Matsumoto and T. Nishimura, Mersenne Twister (1998); G. Box and M. Muller (1958). The order of words was
established by comparing with PyTorch 2.13 and is pinned by recorded streams in the tests.
"""

from __future__ import annotations

import math
import operator
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ArgumentError, ArgumentTypeError, DeviceError, ShapeError, text
from .tensor import Tensor, device

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_SEED = 67280421310721
"""Where PyTorch starts when nobody seeds it."""

WORDS = 624
STATE_BYTES = 5056
BLOCK = 1 << 16
"""Values made at once: the temporary arrays stay in the cache."""

_HEAD = struct.Struct("<QiiQ")  # seed, words left, seeded, next word
_TAIL = struct.Struct("<dddi4xf?3x")  # unused, cached normal, unused, cached?, float cache (never used on a CPU)


class Generator:
    """A stream of random numbers with its own state.

    Args:
        device: ``'cpu'``, the only one there is.

    Raises:
        DeviceError: for any other device.

    Example:
        >>> import konv
        >>> generator = konv.Generator().manual_seed(0)
        >>> konv.rand(3, generator=generator)
        tensor([0.4963, 0.7682, 0.0885])
    """

    __slots__ = ("_bits", "_fresh", "_normal", "_seed", "lock")

    def __init__(self, device: Any = "cpu") -> None:
        if str(device) != "cpu":
            raise DeviceError(text("Generator", f"device={str(device)!r} does not exist here", "use 'cpu'"))
        self.lock = threading.RLock()
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self) -> device:
        """Always ``device('cpu')``."""
        return device("cpu")

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream that belongs to ``seed``, and return the generator.

        Raises:
            ArgumentError: if seed is not a whole number in [-2**63, 2**64).
        """
        try:
            seed = int(seed)
        except (TypeError, ValueError) as error:
            kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentError
            raise kind(text("manual_seed", f"seed={seed!r}", "it must be a whole number")) from None
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(text("manual_seed", f"seed={seed}", "it must lie in [-2**63, 2**64)"))
        with self.lock:
            self._seed = seed % 2**64
            self._bits: Any = None  # made at the first draw, so that importing konv does not load numpy.random
            self._normal: float | None = None
            self._fresh = True
        return self

    def seed(self) -> int:
        """Start from a seed that the operating system picks, and return it."""
        seed = int.from_bytes(os.urandom(7), "little") >> 3
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed that the current stream started from."""
        return self._seed

    def get_state(self) -> Tensor:
        """The whole state as 5056 bytes, in PyTorch's layout (each can load the other's)."""
        with self.lock:
            key, position = self._words()
            left = WORDS + 1 - position
            after = 0 if self._fresh else position
            cached = self._normal is not None
            body = np.zeros(STATE_BYTES, np.uint8)
            body[: _HEAD.size] = np.frombuffer(_HEAD.pack(self._seed, left, 1, after), np.uint8)
            body[_HEAD.size : _HEAD.size + 8 * WORDS] = key.astype("<u8").view(np.uint8)
            tail = _TAIL.pack(0.0, self._normal or 0.0, 0.0, cached, 0.0, False)
            body[_HEAD.size + 8 * WORDS :] = np.frombuffer(tail, np.uint8)
        return Tensor._wrap(body)

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from a state that ``get_state`` gave, and return the generator.

        Raises:
            ArgumentTypeError: if it is not a uint8 tensor.
            ShapeError: if it has the wrong length or is not a state.
        """
        array = getattr(new_state, "_array", None)
        if array is None or array.dtype != np.uint8:
            raise ArgumentTypeError(text("set_state", "not a uint8 tensor", "pass what get_state returned"))
        if array.size != STATE_BYTES:
            rule = f"a state has {STATE_BYTES} bytes"
            raise ShapeError(text("set_state", f"got {array.size} bytes", rule, "pass what get_state returned"))
        body = array.tobytes()
        seed, left, seeded, after = _HEAD.unpack_from(body)
        _, normal, _, cached, _, _ = _TAIL.unpack_from(body, _HEAD.size + 8 * WORDS)
        if seeded != 1 or not 1 <= left <= WORDS or after > WORDS:
            raise ShapeError(text("set_state", "the bytes are not a generator's state", "pass what get_state returned"))
        key = np.frombuffer(body, "<u8", WORDS, _HEAD.size).astype(np.uint32)
        with self.lock:
            self.manual_seed(seed)
            self._load(key, WORDS + 1 - left)
            self._fresh = left == 1 and after == 0
            self._normal = normal if cached else None
        return self

    def __getstate__(self) -> Tensor:
        return self.get_state()

    def __setstate__(self, state: Tensor) -> None:
        self.lock = threading.RLock()
        self.set_state(state)

    def __repr__(self) -> str:
        return f"<konv.Generator device='cpu' seed={self._seed}>"

    # --- words ---

    def _load(self, key: NDArray[np.uint32], position: int) -> None:
        bits = np.random.MT19937(0)
        bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
        self._bits = bits

    def _words(self) -> tuple[NDArray[np.uint32], int]:
        if self._bits is None:
            started: Any = np.random.RandomState(self._seed & 0xFFFFFFFF).get_state(legacy=True)
            self._load(np.asarray(started[1], np.uint32), WORDS)
        state = self._bits.state["state"]
        return state["key"], int(state["pos"])

    def words32(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` 32-bit words (kept in 64 bits)."""
        if self._bits is None:
            self._words()
        if count:
            self._fresh = False
        return self._bits.random_raw(count)

    def words64(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` 64-bit words; the first 32 bits drawn are the high half."""
        halves = self.words32(2 * count)
        return (halves[0::2] << np.uint64(32)) | halves[1::2]

    # --- distributions, on plain arrays ---

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0, double: bool = False) -> NDArray[Any]:
        """``count`` values of U[low, high) as float32, or float64 if ``double``."""
        out = np.empty(count, np.float64 if double else np.float32)
        with self.lock:
            for start in range(0, count, BLOCK):
                part = out[start : start + BLOCK]
                if double:
                    unit = (self.words64(part.size) & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
                    part[:] = _fma64(unit, np.float64(high) - np.float64(low), np.float64(low))
                else:
                    unit = (self.words32(part.size) & np.uint64(2**24 - 1)).astype(np.float64) * 2.0**-24
                    span = np.float32(high) - np.float32(low)
                    part[:] = unit if (low, high) == (0.0, 1.0) else _odd_sum(unit * np.float64(span), np.float32(low))
        return out

    def normal(
        self, count: int, mean: float = 0.0, std: float = 1.0, kind: str = "float32", block: bool = True
    ) -> NDArray[Any]:
        """Values of N(mean, std**2), to be stored as ``kind``: in float32, or float64 where that is exact.

        Args:
            count: how many.
            mean: their mean.
            std: their standard deviation.
            kind: the name of the real dtype that they are for; each draws a little differently in PyTorch.
            block: whether they fill one contiguous piece of memory (one at a time otherwise).
        """
        with self.lock:
            if count < 16 or not block:
                return np.array([self._one_normal() * std + mean for _ in range(count)], np.float64)
            double = kind == "float64"
            whole = count // 16 * 16
            # The 16-bit dtypes leave out the words of the unfinished block, which are never looked at.
            drawn = self.uniform(whole if kind in ("float16", "bfloat16") else count, double=double)
            out = np.empty(count, drawn.dtype)
            out[:whole] = drawn[:whole]
            for start in range(0, whole, BLOCK):
                _box_muller(out[start : min(start + BLOCK, whole)], mean, std)
            if whole != count:  # the last 16 are drawn anew, over the end of the block before
                out[-16:] = self.uniform(16, double=double)
                _box_muller(out[-16:], mean, std)
            return out

    def _one_normal(self) -> float:
        if self._normal is not None:
            value, self._normal = self._normal, None
            return value
        angle, length = self.uniform(2, double=True)
        radius = math.sqrt(-2.0 * math.log1p(-length))
        self._normal = radius * math.sin(2.0 * math.pi * angle)
        return radius * math.cos(2.0 * math.pi * angle)

    def integers(self, count: int, low: int, high: int) -> NDArray[np.int64]:
        """``count`` whole numbers in [low, high)."""
        span = high - low
        with self.lock:
            words = self.words32(count) if span < 2**28 else self.words64(count)
        return (words % np.uint64(span)).astype(np.int64) + np.int64(low)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """The numbers 0 ... count - 1 in random order."""
        with self.lock:
            words = self.words32(max(count - 1, 0))
        order = list(range(count))
        jumps = (words % (np.uint64(count) - np.arange(words.size, dtype=np.uint64))).tolist()
        for i, jump in enumerate(jumps):
            order[i], order[i + jump] = order[i + jump], order[i]
        return np.array(order, np.int64)

    def bernoulli(self, count: int, p: float | NDArray[Any]) -> NDArray[np.bool_]:
        """``count`` truth values, each true with probability p: drawn in float64 for one p, else as p's own dtype."""
        if isinstance(p, (int, float)):
            return self.uniform(count, double=True) < p
        double = p.dtype == np.float64
        return self.uniform(count, double=double) < (p if double else p.astype(np.float32, copy=False))


def _odd_sum(a: NDArray[np.float64], b: Any) -> NDArray[np.float64]:
    """A + b in float64, rounded to odd: rounding the result once more to fewer bits is then exact.

    Source: S. Boldo and G. Melquiond, Emulation of FMA and correctly rounded sums (2008).
    """
    b = np.float64(b)
    total = a + b
    shown = total - a
    rest = (a - (total - shown)) + (b - shown)  # Knuth's two-sum: total + rest is exact
    bits = total.view(np.int64)
    inexact = (rest != 0) & ((bits & 1) == 0)
    # The neighbour towards the rest: one up in magnitude if both have the same sign, else one down.
    bits += inexact * np.where((rest > 0) == (total > 0), 1, -1)
    return total


def _fma64(a: NDArray[np.float64], b: np.float64, c: np.float64) -> NDArray[np.float64]:
    """A * b + c, rounded once, from float64 operations alone (Boldo and Melquiond, 2008)."""
    if (b, c) == (1.0, 0.0):
        return a
    split = 134217729.0  # 2**27 + 1: Veltkamp's splitting
    a_high = split * a - (split * a - a)
    b_high = split * b - (split * b - b)
    product = a * b
    error = ((a_high * b_high - product) + a_high * (b - b_high) + (a - a_high) * b_high) + (a - a_high) * (b - b_high)
    high, low = _two_sum(error, c)
    top, bottom = _two_sum(product, high)
    return top + _odd_sum(bottom, low)


def _two_sum(a: NDArray[np.float64], b: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = a + b
    shown = total - a
    return total, (a - (total - shown)) + (b - shown)


def _box_muller(values: NDArray[Any], mean: float, std: float) -> None:
    """Turn blocks of 16 uniforms in place into normals: the first 8 give the radii, the last 8 the angles."""
    kind = values.dtype.type
    blocks = values.reshape(-1, 2, 8)
    radius = np.sqrt(kind(-2.0) * np.log(kind(1.0) - blocks[:, 0]))
    angle = kind(2.0 * math.pi) * blocks[:, 1]
    blocks[:, 0] = radius * np.cos(angle) * kind(std) + kind(mean)
    blocks[:, 1] = radius * np.sin(angle) * kind(std) + kind(mean)


# --- the stream that everybody shares ---

default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the shared stream; see ``Generator.manual_seed``.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.rand(2)
        tensor([0.4963, 0.7682])
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the shared stream from the operating system, and return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the shared stream started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the shared stream: (5056,) uint8."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Go on from a state of ``get_rng_state``."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Sequence[Any] = (), enabled: bool = True) -> Iterator[None]:
    """Put the shared stream back to where it was when the block ends.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> with konv.random.fork_rng():
        ...     inside = konv.rand(1)
        >>> bool((konv.rand(1) == inside).all())
        True
    """
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)


def chosen(generator: Generator | None) -> Generator:
    """``generator``, or the shared one if None.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise ArgumentTypeError(text("generator", f"got {type(generator).__name__}", "it must be a konv.Generator"))
    return generator


def whole(value: Any, who: str, name: str) -> int:
    """``value`` as an int.

    Raises:
        ArgumentTypeError: if it is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError(text(who, f"{name}={value!r}", "it must be a whole number")) from None
