"""``python -m exchange``: the same program as the installed ``exchange``."""

from __future__ import annotations

import sys

from exchange.cli.main import main

sys.exit(main())
