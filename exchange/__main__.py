"""``python -m exchange``: the same program as the installed ``exchange``."""

from __future__ import annotations

import sys

try:
    from exchange.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

sys.exit(main())
