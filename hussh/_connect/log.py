"""The package's logger, silent until the application gives it a handler.

Modules of `_connect` log with it. Nothing that is logged contains a secret.
"""

from __future__ import annotations

import logging

__all__ = ["logger"]

logger = logging.getLogger("hussh")
logger.addHandler(logging.NullHandler())
