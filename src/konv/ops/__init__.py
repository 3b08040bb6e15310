"""Operations: one file a family, forward and backward on one screen. Importing this hands Tensor its methods."""

from __future__ import annotations

from .. import copying, printing  # noqa: F401
from . import operators  # noqa: F401
from .activation import *  # noqa: F403
from .choose import *  # noqa: F403
from .compare import *  # noqa: F403
from .convert import *  # noqa: F403
from .creation import *  # noqa: F403
from .elementary import *  # noqa: F403
from .index import *  # noqa: F403
from .join import *  # noqa: F403
from .linear import *  # noqa: F403
from .order import *  # noqa: F403
from .parts import *  # noqa: F403
from .pointwise import *  # noqa: F403
from .reduce import *  # noqa: F403
from .shape import *  # noqa: F403
from .variance import *  # noqa: F403
