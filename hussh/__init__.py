"""SSH for hosts that you cannot reach directly.

from hussh import Connection

bastion = Connection("bastion", username="u", password="…")
target = Connection("target.internal", username="u", proxy_jump=bastion)
print(target.execute("hostname").stdout)

Users import it. It has names only; `_api` has the classes, and a name that few programs need loads
its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _older_package as _older_package  # isort: split

from ._api.build_info import build_info
from ._api.connection import Connection
from ._api.forward import Forward
from ._api.process import Process
from ._api.sftp import SFTP
from ._api.shell import InteractiveShell
from ._api.tail import FileTailer
from ._api.tunnel import Tunnel
from ._policy.algorithms import HopAlgorithms
from ._policy.expect_match import ExpectMatch
from ._policy.hostkeys.host_key import HostKey
from ._policy.prompts import Prompt, PromptRequest
from ._protocol.process import Pty
from ._results.ssh_result import SSHResult
from ._results.transfer_result import FailedPath, MirrorResult, TransferResult
from ._version import __version__ as __version__
from .errors import (
    AuthenticationError,
    ChannelError,
    ChannelRefused,
    CommandFailed,
    CommandTimeout,
    ConfigError,
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    ConnectTimeout,
    ExpectEOF,
    ExpectTimeout,
    ForkedConnectionError,
    ForwardRefused,
    HostKeyError,
    HusshError,
    JumpRefused,
    KeyFileError,
    KeyRefused,
    KeyUnreadable,
    NegotiationError,
    NotText,
    OutputLimitExceeded,
    PartialFailureException,
    PassphraseRequired,
    ProtocolError,
    ProxyCommandError,
    ServerBusy,
    SFTPError,
    SFTPExistsError,
    SFTPIsDirectoryError,
    SFTPNotDirectoryError,
    SFTPNotFoundError,
    SFTPPermissionError,
    SFTPTimeout,
    SFTPUnavailable,
    SudoError,
    SudoNeedsTerminal,
    SudoNotPermitted,
    SudoPasswordError,
    TunnelRefused,
    WrongPassphrase,
)

__all__ = [
    "SFTP",
    "AuthenticationError",
    "ChannelError",
    "ChannelRefused",
    "CommandFailed",
    "CommandTimeout",
    "ConfigError",
    "ConnectError",
    "ConnectTimeout",
    "Connection",
    "ConnectionClosed",
    "ConnectionLost",
    "ExpectEOF",
    "ExpectMatch",
    "ExpectTimeout",
    "FailedPath",
    "FileTailer",
    "ForkedConnectionError",
    "Forward",
    "ForwardRefused",
    "HopAlgorithms",
    "HopReport",
    "HostKey",
    "HostKeyError",
    "HostKeyReport",
    "HusshError",
    "InteractiveShell",
    "JumpRefused",
    "KeyFileError",
    "KeyRefused",
    "KeyUnreadable",
    "NegotiationError",
    "NotText",
    "OutputLimitExceeded",
    "PartialFailureException",
    "PassphraseRequired",
    "Process",
    "Prompt",
    "PromptRequest",
    "ProtocolError",
    "ProxyCommandError",
    "SFTPError",
    "SFTPExistsError",
    "SFTPIsDirectoryError",
    "SFTPNotDirectoryError",
    "SFTPNotFoundError",
    "SFTPPermissionError",
    "SFTPTimeout",
    "SFTPUnavailable",
    "Report",
    "ServerBusy",
    "Setting",
    "Pty",
    "SSHResult",
    "MirrorResult",
    "TransferResult",
    "SudoError",
    "SudoNeedsTerminal",
    "SudoNotPermitted",
    "SudoPasswordError",
    "Tunnel",
    "TunnelRefused",
    "WrongPassphrase",
    "aio",
    "build_info",
    "explain",
    "multi_conn",
]

if TYPE_CHECKING:
    from ._api.explain import explain
    from ._policy.report import HopReport, HostKeyReport, Report, Setting

#: What loads when it is first named, from which module. `import hussh` alone gave the two modules
#: in 0.3.3; they need anyio. Few programs explain.
_LAZY = {
    "aio": "",
    "multi_conn": "",
    "explain": "_api.explain",
    "HopReport": "_policy.report",
    "HostKeyReport": "_policy.report",
    "Report": "_policy.report",
    "Setting": "_policy.report",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        home = _LAZY[name]
        if not home:
            return importlib.import_module(f"hussh.{name}")
        return getattr(importlib.import_module(f"hussh.{home}"), name)
    raise AttributeError(f"module 'hussh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
