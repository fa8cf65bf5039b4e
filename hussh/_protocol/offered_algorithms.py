"""Which algorithms are offered to a hop: those that its options name, as far as they exist here.

`handshake` offers them, `_connect/connect_attempt.py` loads what they need before.  ML-KEM is the
only one whose library may be missing.
"""

from __future__ import annotations

from .._native.kex_work import get_mlkem_source, is_mlkem_loaded, load_mlkem
from .._policy.algorithms import HYBRID, Algorithms
from .._policy.options import Options
from ..errors import NegotiationError

__all__ = ["are_algorithms_loaded", "load_algorithms", "list_offered_algorithms"]


def are_algorithms_loaded(options: Options) -> bool:
    """Tell whether `load_algorithms` would have nothing to do."""
    return is_mlkem_loaded() or HYBRID not in options.algorithms.key_exchange


def load_algorithms(options: Options) -> None:
    """Import what a hop's algorithms need; may read files, and takes 50 ms the first time.

    Raises:
        NegotiationError: none of its key exchanges can be made here.
    """
    if not are_algorithms_loaded(options):
        load_mlkem()
    if not list_offered_algorithms(options).key_exchange:
        raise NegotiationError(
            f"no usable key exchange algorithm: {HYBRID} needs OpenSSL 3.5 or cryptography 47, or"
            " later ones. key_exchange= changes what we offer",
            ours={"kex": HYBRID},
        )


def list_offered_algorithms(options: Options) -> Algorithms:
    """Return what is offered to a hop, after `load_algorithms`."""
    wanted = options.algorithms
    return wanted if get_mlkem_source() else wanted.without_mlkem
