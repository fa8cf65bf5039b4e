"""Which signature algorithm a key uses, and which keys are taken by default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hussh._policy.keys import key_files
from hussh._policy.keys.key_files import list_default_key_paths
from hussh._policy.keys.signature_algorithms import choose_signature_algorithms


@pytest.mark.parametrize(
    ("algorithm", "server", "expected"),
    [
        ("ssh-rsa", None, "rsa-sha2-512"),
        ("ssh-rsa", ["rsa-sha2-256", "rsa-sha2-512", "ssh-rsa"], "rsa-sha2-512"),
        ("ssh-rsa", ["rsa-sha2-256", "ssh-rsa"], "rsa-sha2-256"),
        ("ssh-rsa", ["ssh-rsa"], None),
        ("ssh-rsa", [], None),
        ("ssh-rsa-cert-v01@openssh.com", ["rsa-sha2-256"], "rsa-sha2-256-cert-v01@openssh.com"),
        ("ssh-ed25519", ["rsa-sha2-256", "rsa-sha2-512"], "ssh-ed25519"),
        ("ecdsa-sha2-nistp256", None, "ecdsa-sha2-nistp256"),
        ("sk-ssh-ed25519@openssh.com", None, "sk-ssh-ed25519@openssh.com"),
        ("ssh-dss", None, None),
    ],
)
def test_the_signature_algorithm_follows_the_server(
    algorithm: str, server: list[str] | None, expected: str | None
) -> None:
    """RSA follows the server's list, and never signs with SHA-1; other kinds have no choice."""
    assert next(iter(choose_signature_algorithms(algorithm, server)), None) == expected


def test_all_choices_come_best_first() -> None:
    """A server that lists what it then refuses can be asked for the next best."""
    names = ("rsa-sha2-512", "rsa-sha2-256")
    assert choose_signature_algorithms("ssh-rsa", ("ssh-rsa", *reversed(names))) == names


def test_default_keys_come_in_the_documented_order(tmp_path: Path) -> None:
    """RSA, Ed25519, ECDSA: the order that 0.3.3 had."""
    names = ["id_rsa", "id_ed25519", "id_ecdsa"]
    assert list_default_key_paths(tmp_path) == [str(tmp_path / ".ssh" / name) for name in names]


def test_importing_the_module_imports_no_crypto() -> None:
    """`import hussh` stays quick: cryptography and bcrypt load with the first key."""
    code = (
        "import sys, hussh._policy.keys.key_files; "
        "print({'cryptography', 'bcrypt'} & {*sys.modules})"
    )
    root = Path(key_files.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"set()\n"
