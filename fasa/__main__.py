"""``python -m fasa``: the command ``fasa``."""

import sys

from fasa.cli import main

sys.exit(main())
