"""SSH for hosts that you cannot reach directly.

from hussh import Connection

bastion = Connection("bastion", username="u", password="…")
target = Connection("target.internal", username="u", proxy_jump=bastion)
print(target.execute("hostname").stdout)
"""

from ._api.build_info import build_info
from ._api.connection import Connection
from ._policy.options import Prompt, PromptRequest
from ._policy.result import SSHResult
from .errors import *  # noqa: F403
from .errors import __all__ as _errors

__all__ = ["Connection", "Prompt", "PromptRequest", "SSHResult", "build_info", *_errors]
