"""`build_info()`: which libssh2, patches and OpenSSL are really in use.

Users call it. It reads what the build recorded and asks the loaded libraries, and no server.
"""

from __future__ import annotations

from typing import Any

from .._native._libssh2 import ffi, lib
from .._native.kex_work import get_mlkem_source, load_mlkem
from .._runtime.workers import run_in_worker

__all__ = ["build_info"]


def build_info() -> dict[str, Any]:
    """Return what the compiled part was made of, checked against what is running.

    Returns:
        ``libssh2``: version of upstream's release
        ``changed_files``: names of the files that were not the release's, if the build was
            given another source
        ``patches``: ours, name to SHA-256
        ``cves``: each vulnerability published for the release: "patched by NAME", "not compiled
            in: FILE", or "not patched"
        ``openssl``: version compiled against
        ``openssl_running``: version loaded now
        ``static``: what is linked in besides libssh2, as in hussh's wheels: name to ``version``,
            ``sha256`` of the release, and ``cves``, each published vulnerability of that version to
            the reason why the code does not have it. Empty where the system's libraries are used
        ``mlkem``: which library computes ML-KEM for post-quantum key exchanges: "OpenSSL",
            "cryptography", or "none": then they are not offered

    Raises:
        RuntimeError: the linked libssh2 is not the one that was recorded, or OpenSSL changed
            its major version after the build.
    """
    import json  # here, because most programs do without

    built: dict[str, Any] = json.loads(ffi.string(lib.hussh_built_from()))
    linked = ffi.string(lib.libssh2_version(0)).decode()
    if linked != built["libssh2"]:
        raise RuntimeError(f"built from libssh2 {built['libssh2']}, but {linked} is linked")
    # "OpenSSL 3.0.17 1 Jul 2025": the second word
    running = ffi.string(lib.hussh_openssl_version()).decode().split()[1]
    if running.split(".")[0] != built["openssl"].split(".")[0]:
        raise RuntimeError(f"built for OpenSSL {built['openssl']}, but {running} is loaded")
    run_in_worker(load_mlkem)  # an import: see `ConnectAttempt.load`
    return {**built, "openssl_running": running, "mlkem": get_mlkem_source() or "none"}
