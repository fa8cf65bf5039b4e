"""Private keys made by real ssh-keygen and openssl; signatures judged by real ssh-keygen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from base64 import b64decode, b64encode
from hashlib import sha512
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hussh._policy.keys import key_files
from hussh._policy.keys.key_files import load_private_key, parse_private_key
from hussh._policy.keys.private_key import PrivateKey
from hussh._policy.keys.public_key import PublicKey
from hussh._policy.keys.signature_algorithms import choose_signature_algorithms
from hussh._policy.wire import Reader, string, uint32
from hussh.errors import (
    KeyFileError,
    KeyUnreadable,
    PassphraseRequired,
    WrongPassphrase,
)
from tests.support.key_bytes import ED_BLOB, container, only_our_errors

PASSPHRASE = "correct horse ü"
WRONG = "t0psecret"
KINDS = {
    "ed25519": ("ed25519", "256", "ssh-ed25519"),
    "ecdsa256": ("ecdsa", "256", "ecdsa-sha2-nistp256"),
    "ecdsa384": ("ecdsa", "384", "ecdsa-sha2-nistp384"),
    "ecdsa521": ("ecdsa", "521", "ecdsa-sha2-nistp521"),
    "rsa": ("rsa", "2048", "ssh-rsa"),
}
OPENSSH_CIPHERS = [
    "aes128-ctr",
    "aes192-ctr",
    "aes256-cbc",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
]
# ssh-keygen writes Ed25519 in its own format only; openssl makes the PKCS#8 ones.
CASES = [
    f"{kind}-{form}{crypt}"
    for kind in KINDS
    for form in ("OPENSSH", "PEM", "PKCS8")
    for crypt in ("", "-encrypted")
    if (kind, form) != ("ed25519", "PEM")
]
ENCRYPTED = [case for case in CASES if case.endswith("-encrypted")]
SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Pair(NamedTuple):
    """A key file and what the tool that made it says is its public half."""

    path: Path
    blob: bytes
    comment: str


def run(*argv: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def rewrite(base: Path, path: Path, form: str, passphrase: str, *more: str) -> Path:
    shutil.copy(base, path)
    form_options = () if form == "OPENSSH" else ("-m", form)
    run("ssh-keygen", "-q", "-p", *form_options, *more, "-a", "1", "-P", "", "-N", passphrase,
        "-f", path)  # fmt: skip
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """One key of every kind, in every format, with and without a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    pairs = {}
    for kind, (type_, bits, _) in KINDS.items():
        base = folder / kind
        comment = f"{kind} of a test"
        run("ssh-keygen", "-q", "-t", type_, "-b", bits, "-C", comment, "-N", "", "-f", base)
        blob = b64decode(base.with_suffix(".pub").read_text().split()[1])
        for form in ("OPENSSH", "PEM", "PKCS8"):
            if kind == "ed25519" and form != "OPENSSH":
                continue
            kept = comment if form == "OPENSSH" else ""
            for passphrase, crypt in (("", ""), (PASSPHRASE, "-encrypted")):
                name = f"{kind}-{form}{crypt}"
                pairs[name] = Pair(rewrite(base, folder / name, form, passphrase), blob, kept)
    for cipher in OPENSSH_CIPHERS:
        path = rewrite(folder / "ed25519", folder / cipher, "OPENSSH", PASSPHRASE, "-Z", cipher)
        pairs[cipher] = pairs["ed25519-OPENSSH"]._replace(path=path)
    plain, locked = folder / "ed25519-PKCS8", folder / "ed25519-PKCS8-encrypted"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", plain)
    run("openssl", "pkcs8", "-topk8", "-in", plain, "-passout", f"pass:{PASSPHRASE}",
        "-out", locked)  # fmt: skip
    raw = run("openssl", "pkey", "-in", plain, "-pubout", "-outform", "DER")[-32:]
    for path in (plain, locked):
        pairs[path.name] = Pair(path, string(b"ssh-ed25519") + string(raw), "")
    return pairs


def assert_ssh_keygen_accepts(key: PrivateKey, algorithm: str, folder: Path) -> None:
    """Have ssh-keygen verify a signature of `key`, in its SSHSIG envelope."""
    message = b"what is signed"
    envelope = b"SSHSIG" + string(b"test") + string(b"") + string(b"sha512")
    signature = key.sign(envelope + string(sha512(message).digest()), algorithm)
    packed = (
        b"SSHSIG" + uint32(1) + string(key.public.blob) + string(b"test") + string(b"")
        + string(b"sha512") + string(signature)
    )  # fmt: skip
    lines = b64encode(packed).decode()
    text = "\n".join(lines[i : i + 70] for i in range(0, len(lines), 70))
    file = folder / "message.sig"
    file.write_text(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
    run("ssh-keygen", "-Y", "check-novalidate", "-n", "test", "-s", file, stdin=message)


# --- What can be read --------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_kind_and_format_is_read_and_signs(
    case: str, made: dict[str, Pair], tmp_path: Path
) -> None:
    """A key of any kind and format gives the right public key and signatures that verify."""
    pair = made[case]
    key = load_private_key(pair.path, PASSPHRASE if case in ENCRYPTED else None)
    algorithm = KINDS[case.split("-")[0]][2]
    assert key.public == PublicKey(algorithm, pair.blob, pair.comment)
    assert_ssh_keygen_accepts(key, choose_signature_algorithms(algorithm, None)[0], tmp_path)


@pytest.mark.parametrize("cipher", OPENSSH_CIPHERS)
def test_every_cipher_of_ssh_keygen_is_read(cipher: str, made: dict[str, Pair]) -> None:
    """The ciphers of `ssh-keygen -Z` decrypt, and a wrong passphrase is told as such by each."""
    pair = made[cipher]
    assert load_private_key(pair.path, PASSPHRASE).public.blob == pair.blob
    with pytest.raises(WrongPassphrase):
        load_private_key(pair.path, "wrong")


@pytest.mark.parametrize(
    "options",
    [
        ("rsa", "-traditional", "-des3"),
        ("rsa", "-traditional", "-aes256"),
        ("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"),
        ("pkcs8", "-topk8", "-scrypt"),
    ],
    ids=lambda options: options[-1],
)
def test_openssl_encryption_is_read(
    options: tuple[str, ...], made: dict[str, Pair], tmp_path: Path
) -> None:
    """Keys that openssl encrypted in its older and newer ways are read."""
    pair = made["rsa-PKCS8"]
    path = tmp_path / "key"
    run("openssl", *options, "-in", pair.path, "-passout", f"pass:{PASSPHRASE}", "-out", path)
    assert load_private_key(path, PASSPHRASE).public.blob == pair.blob


def test_rsa_signs_with_each_hash(made: dict[str, Pair], tmp_path: Path) -> None:
    """Both SHA-2 algorithms verify, and the SHA-1 one does with the crypto library."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    pair = made["rsa-OPENSSH"]
    key = load_private_key(pair.path)
    assert_ssh_keygen_accepts(key, "rsa-sha2-256", tmp_path)
    assert_ssh_keygen_accepts(key, "rsa-sha2-512", tmp_path)
    signature = Reader(key.sign(b"data", "ssh-rsa"))
    assert signature.string() == b"ssh-rsa"
    public = load_ssh_public_key(b"ssh-rsa " + b64encode(pair.blob))
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature.string(), b"data", padding.PKCS1v15(), hashes.SHA1())


def test_a_key_refuses_a_foreign_algorithm(made: dict[str, Pair]) -> None:
    """Asking an Ed25519 key for an RSA signature is the caller's mistake."""
    key = load_private_key(made["ed25519-OPENSSH"].path)
    with pytest.raises(ValueError, match="cannot sign with rsa-sha2-512"):
        key.sign(b"data", "rsa-sha2-512")


def test_the_fingerprint_is_the_one_of_ssh_keygen(made: dict[str, Pair]) -> None:
    """Fingerprints read as `ssh-keygen -l` prints them, also in the repr."""
    pair = made["ecdsa384-OPENSSH"]
    key = load_private_key(pair.path)
    printed = run("ssh-keygen", "-l", "-f", pair.path).decode().split()[1]
    assert key.public.fingerprint == printed
    assert repr(key) == f"<PrivateKey ecdsa-sha2-nistp384 {printed}>"


def test_a_passphrase_for_a_plain_key_is_ignored(made: dict[str, Pair]) -> None:
    """`password` may be the login's: it must not spoil a key that needs none."""
    for case in ("rsa-OPENSSH", "rsa-PEM", "rsa-PKCS8"):
        assert load_private_key(made[case].path, "login").public.blob == made[case].blob


def test_a_passphrase_may_be_bytes(made: dict[str, Pair]) -> None:
    """Bytes are taken as they are, text as UTF-8."""
    pair = made["ed25519-OPENSSH-encrypted"]
    assert load_private_key(pair.path, PASSPHRASE.encode()).public.blob == pair.blob


def test_the_home_folder_expands(
    made: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home folder, in text and in path objects."""
    shutil.copy(made["ed25519-OPENSSH"].path, tmp_path / "key")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_private_key("~/key").public == load_private_key(Path("~/key")).public


def test_foreign_line_ends_and_text_around_the_key(made: dict[str, Pair]) -> None:
    """CRLF, text before the key and a missing last newline do not matter."""
    for case in ("rsa-OPENSSH", "rsa-PEM", "rsa-PEM-encrypted", "rsa-PKCS8"):
        text = made[case].path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n")
        key = parse_private_key(b"Bag Attributes\r\n" + text, PASSPHRASE, "key")
        assert key.public.blob == made[case].blob


def test_ec_parameters_before_the_key(tmp_path: Path) -> None:
    """`openssl ecparam -genkey` puts another block first."""
    path = tmp_path / "key"
    run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", path)
    assert b"BEGIN EC PARAMETERS" in path.read_bytes()
    assert load_private_key(path).public.algorithm == "ecdsa-sha2-nistp256"


# --- What cannot -------------------------------------------------------------


@pytest.mark.parametrize("case", ENCRYPTED)
def test_wrong_and_missing_passphrases_are_two_errors(case: str, made: dict[str, Pair]) -> None:
    """An encrypted key tells a wrong passphrase from none, names the file, and no secret."""
    path = made[case].path
    with pytest.raises(WrongPassphrase, match="does not fit the private key") as wrong:
        load_private_key(path, WRONG)
    for nothing in (None, "", b""):
        with pytest.raises(PassphraseRequired, match="encrypted and no passphrase") as missing:
            load_private_key(path, nothing)
    assert str(path) in str(wrong.value)
    assert str(path) in str(missing.value)
    assert WRONG not in "".join(traceback.format_exception(wrong.value))


def test_a_passphrase_that_is_no_text_is_wrong(made: dict[str, Pair]) -> None:
    """A lone surrogate cannot be encoded; the error does not carry the text along."""
    with pytest.raises(WrongPassphrase, match="not valid text") as caught:
        load_private_key(made["rsa-PEM-encrypted"].path, WRONG + "\ud800")
    assert caught.value.__context__ is None


def test_without_bcrypt_the_text_names_it(
    made: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the package bcrypt is missing, only encrypted OpenSSH keys suffer, and say why."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(KeyUnreadable, match="package bcrypt is not installed"):
        load_private_key(made["rsa-OPENSSH-encrypted"].path, PASSPHRASE)
    for case in ("rsa-OPENSSH", "rsa-PEM-encrypted", "rsa-PKCS8-encrypted"):
        assert load_private_key(made[case].path, PASSPHRASE).public.blob == made[case].blob


def test_a_crypto_library_that_refuses_to_sign_is_our_error() -> None:
    """SHA-1 may be forbidden by the machine's policy: the error names the algorithm."""

    def refuse(data: bytes) -> bytes:
        raise NotImplementedError

    key = PrivateKey(PublicKey("ssh-rsa", b"blob"), {"ssh-rsa": refuse})
    with pytest.raises(KeyFileError, match="cannot sign with ssh-rsa: NotImplementedError"):
        key.sign(b"data", "ssh-rsa")


def test_what_is_not_a_file_is_unreadable(tmp_path: Path) -> None:
    """Missing, a folder, a pipe that nobody writes, an impossible name: each has its text."""
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/dev/fd"))
    for name, text in {
        "missing": "does not exist",
        "missing/key": "does not exist",
        ".": "is a directory",
        "pipe": "is not a regular file",
        "nul\0": "is not a possible path",
    }.items():
        with pytest.raises(KeyUnreadable, match=text):
            load_private_key(f"{tmp_path}/{name}")
    assert len(os.listdir("/dev/fd")) == before


def test_a_forbidden_file_is_unreadable(made: dict[str, Pair], tmp_path: Path) -> None:
    """No permission is told as such; root first becomes someone who can lack it."""
    path = tmp_path / "key"
    shutil.copy(made["rsa-PEM"].path, path)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(KeyUnreadable, match="permission denied"):
            load_private_key(path)
    finally:
        os.seteuid(user)


def test_a_key_given_in_place_of_its_path_is_not_printed(made: dict[str, Pair]) -> None:
    """Someone who passes the key itself is told so, without the key."""
    text = made["ed25519-OPENSSH"].path.read_text()
    for given_ in (text, text.splitlines()[1] + "\n"):
        with pytest.raises(KeyUnreadable, match="neither a path nor the whole text") as caught:
            load_private_key(given_)
        assert text.splitlines()[1] not in str(caught.value)


def test_what_holds_no_private_key_says_what_it_is(made: dict[str, Pair]) -> None:
    """A public key, PuTTY's format, an old DSA key, a huge or an empty file."""
    public = run("ssh-keygen", "-y", "-f", made["rsa-OPENSSH"].path)
    for data, text in {
        b"": "holds no private key",
        b"\0" * 100: "holds no private key",
        b"x" * (key_files.MAX_FILE + 1): "larger than 1 MiB",
        public: "holds a public key",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n": "puttygen",
        b"-----BEGIN DSA PRIVATE KEY-----\nAA==\n-----END DSA PRIVATE KEY-----\n": "DSA key",
    }.items():
        with pytest.raises(KeyUnreadable, match=text):
            parse_private_key(data, "passphrase", "key")


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    """A sparse file of 1 TiB is refused at once."""
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(KeyUnreadable, match="larger than 1 MiB"):
        load_private_key(tmp_path / "huge")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("EC", "-pkeyopt", "ec_paramgen_curve:secp224r1"), "secp224r1"),
        (("X25519",), "X25519"),
        (("RSA", "-pkeyopt", "rsa_keygen_bits:512"), "512 bits"),
    ],
    ids=["curve", "kind", "small"],
)
def test_a_key_that_ssh_cannot_use_is_unreadable(
    options: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    """Another curve, another kind, too few bits: the text names it."""
    path = tmp_path / "key"
    run("openssl", "genpkey", "-out", path, "-algorithm", *options)
    with pytest.raises(KeyUnreadable, match=text):
        load_private_key(path)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("rsa")])
def test_a_cut_file_is_damaged_not_a_wrong_passphrase(case: str, made: dict[str, Pair]) -> None:
    """A file that lost a line or its end is the file's fault, encrypted or not."""
    lines = made[case].path.read_bytes().splitlines(keepends=True)
    # For PEM's own encryption only a line that breaks base64 can be noticed.
    holed = [*lines[:5], lines[5][1:], *lines[6:]]
    for damaged in (lines[:-1], holed):
        with pytest.raises(KeyUnreadable, match=r"damaged|decoded"):
            parse_private_key(b"".join(damaged), PASSPHRASE, "key")


def test_an_unknown_cipher_is_not_a_wrong_passphrase(made: dict[str, Pair]) -> None:
    """A cipher that nobody knows is named as the fault in all three formats."""
    pem = made["rsa-PEM-encrypted"].path.read_bytes().replace(b"AES-128-CBC", b"RC5-CBC")
    with pytest.raises(KeyUnreadable, match="not supported"):
        parse_private_key(pem, PASSPHRASE, "key")
    with pytest.raises(KeyUnreadable, match="'rot13'"):
        parse_private_key(container(ED_BLOB, bytes(64), b"rot13"), PASSPHRASE, "key")
    body = b64decode(b"".join(made["rsa-PKCS8-encrypted"].path.read_bytes().split(b"\n")[1:-2]))
    # The object identifier of NIST's AES family, within the parameters.
    odd = body.replace(bytes.fromhex("6086480165030401"), bytes.fromhex("6086480165030477"), 1)
    text = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(KeyUnreadable, match="not supported"):
        parse_private_key(text % b64encode(odd), PASSPHRASE, "key")


# --- Hostile bytes -----------------------------------------------------------


@SMALL
@given(body=st.binary(max_size=300), label=st.sampled_from(["", "EC ", "RSA ", "ENCRYPTED "]))
def test_garbage_in_pem_is_our_error(body: bytes, label: str) -> None:
    """Any bytes in a PEM envelope are a HusshError, with base64 and without."""
    for text in (b64encode(body), body):
        begin, end = f"-----BEGIN {label}PRIVATE KEY-----", f"-----END {label}PRIVATE KEY-----"
        only_our_errors(b"%s\n%s\n%s\n" % (begin.encode(), text, end.encode()), "passphrase")


@SMALL
@given(data=st.data())
def test_a_mutated_key_is_read_or_our_error(made: dict[str, Pair], data: st.DataObject) -> None:
    """A real file with some bytes changed never raises anything else.

    Encrypted files are changed in their second half only: before it stand the
    iteration counts, which an attacker may raise and a test should not.
    """
    case = data.draw(st.sampled_from(CASES))
    content = bytearray(made[case].path.read_bytes())
    first = len(content) // 2 if case in ENCRYPTED else 0
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(first, len(content) - 1))] = data.draw(st.integers(0, 255))
    only_our_errors(bytes(content), PASSPHRASE)
