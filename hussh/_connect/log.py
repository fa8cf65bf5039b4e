"""The package's logger, silent until the application gives it a handler.

What is logged never holds a secret of ours.
"""

from __future__ import annotations

import logging

__all__ = ["logger"]

logger = logging.getLogger("hussh")
logger.addHandler(logging.NullHandler())
