"""How much longer everything may take than usual: for a build that checks every access."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("OXLIP_TESTS_PATIENCE", "1"))
