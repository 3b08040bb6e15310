"""Operations: one file a family, forward and backward on one screen. Importing this hands Tensor its methods."""

from __future__ import annotations

from .. import printing  # noqa: F401
from .activation import *  # noqa: F403
from .convert import *  # noqa: F403
from .creation import *  # noqa: F403
from .index import *  # noqa: F403
from .linear import *  # noqa: F403
from .pointwise import *  # noqa: F403
from .random import *  # noqa: F403
from .reduce import *  # noqa: F403
from .shape import *  # noqa: F403
