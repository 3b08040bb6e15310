"""``python -m konv.cli`` does what ``konv`` does."""

import sys

from . import main

sys.exit(main())
