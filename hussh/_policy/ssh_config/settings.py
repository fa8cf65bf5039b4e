"""Turns an answer of ``ssh -G`` into the options of one hop: a table with a line for each keyword.

`configure_plan.py` of `_api` calls it. A keyword that is not in the table is named in the log if
its value differs from that of ``ssh -G -F none``; where ignoring it would weaken security it is an
error. Pure: algorithms, environment and defaults are handed in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...errors import ConfigError
from .answer import Answer, is_none
from .configured import Configured

__all__ = ["Followed", "Reader", "follow"]


@dataclass(eq=False, repr=False)
class Followed:
    """What a configuration says about one hop.

    Attributes:
        options: arguments of a connection by their names.
        more: what becomes a `Configured`.
        ignored: keywords that are set and cannot be followed.
        unknown: by keyword, algorithms that hussh does not have.
    """

    options: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def make_configured(self, without: Mapping[str, object]) -> Configured:
        """Return what no argument can say; `without`: arguments that the caller gave, which win."""
        names = frozenset(name for name in self.options if name not in without)
        return Configured(names=names, **self.more)


class Reader(NamedTuple):
    """What the lines of the table read.

    Attributes:
        answer: for the host.
        usual: for any host, without a configuration.
        environ: usually ``os.environ``.
        supported: by argument, the names of algorithms that hussh has.
    """

    answer: Answer
    usual: Answer
    environ: Mapping[str, str]
    supported: Mapping[str, Sequence[str]]

    def is_set(self, keyword: str) -> bool:
        return self.answer.differs(keyword, self.usual)

    def expand(self, keyword: str) -> tuple[str, ...]:
        return tuple(
            [
                self.answer.expand(value, keyword, self.environ)
                for value in self.answer.get_many(keyword)
                if not is_none(value)
            ]
        )

    def make_error(self, keyword: str, why: str) -> ConfigError:
        host, value = self.answer.question.host, self.answer.get_one(keyword.lower())
        return ConfigError(
            f"the ssh configuration sets {keyword} {value} for {host}, which cannot be followed: "
            f"{why}. To ignore it would be less safe than ssh is; give {host} a block without it"
        )


# -- one function for each keyword, or for keywords that belong together


def _follow_known_hosts(read: Reader, into: Followed) -> None:
    if read.is_set("userknownhostsfile") or read.is_set("globalknownhostsfile"):
        user = read.answer.split_paths("userknownhostsfile")
        into.options["known_hosts"] = (*user, *read.answer.split_paths("globalknownhostsfile"))
        if not user and into.options.get("host_key_policy") == "accept-new":
            into.options["host_key_policy"] = "accept-unknown"  # there is nowhere to record


_POLICIES = {
    "yes": "strict",
    "true": "strict",
    "ask": "strict",  # there is nobody to ask; the error says what to do
    "accept-new": "accept-new",
    "no": "accept-unknown",
    "off": "accept-unknown",
    "false": "accept-unknown",
}


def _follow_policy(read: Reader, into: Followed) -> None:
    value = read.answer.get_one("stricthostkeychecking").lower()
    policy = _POLICIES.get(value)
    if policy is None:
        raise read.make_error("StrictHostKeyChecking", "this value is not known here")
    into.options["host_key_policy"] = policy


def _follow_alias(read: Reader, into: Followed) -> None:
    if read.is_set("hostkeyalias"):
        into.options["host_key_alias"] = read.answer.get_one("hostkeyalias")


def _follow_revoked(read: Reader, into: Followed) -> None:
    value = read.answer.get_one("revokedhostkeys")
    if value and not is_none(value):
        into.more["revoked_host_keys"] = read.answer.expand_tilde(value)


#: Tokens of KnownHostsCommand that tell of a key which the server has not shown yet: ssh asks the
#: command once before, when it says so, and again for the key.
_BEFORE = {"I": "ORDER", "t": "NONE", "f": "NONE", "K": "NONE"}


def _follow_known_hosts_command(read: Reader, into: Followed) -> None:
    value = read.answer.get_one("knownhostscommand")
    if not value or is_none(value):
        return
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise read.make_error("KnownHostsCommand", str(error)) from error
    if not words or not words[0].startswith("/"):
        raise read.make_error("KnownHostsCommand", "its path is not absolute, which ssh refuses")
    if any(f"%{letter}" in word.replace("%%", "") for word in words for letter in _BEFORE):
        raise read.make_error("KnownHostsCommand", "it asks for the key that the server shows")
    # The name that is looked up the hop knows: it takes the place of a NUL.
    words = [re.sub("%%|%H", lambda token: {"%H": "\0"}.get(token[0], "%%"), one) for one in words]
    into.more["known_hosts_command"] = tuple(
        [read.answer.expand(word, "KnownHostsCommand", read.environ) for word in words]
    )


def _follow_identities(read: Reader, into: Followed) -> None:
    if read.is_set("identityfile"):
        into.more["identity_files"] = tuple(dict.fromkeys(read.expand("identityfile")))
    if read.answer.get_many("certificatefile"):
        into.more["certificate_files"] = read.expand("certificatefile")
    if read.answer.is_yes("identitiesonly"):
        into.more["identities_only"] = True


def _follow_agent(read: Reader, into: Followed) -> None:
    value = read.answer.get_one("identityagent")
    if not value or value == "SSH_AUTH_SOCK":
        return
    if is_none(value):
        into.options["agent"] = False
    elif value.startswith("$") and not value.startswith("${"):
        into.options["agent"] = read.environ.get(value[1:]) or False
    else:
        into.options["agent"] = read.answer.expand_tilde(value)


def _make_follower(keyword: str, argument: str) -> Callable[[Reader, Followed], None]:
    def line(read: Reader, into: Followed) -> None:
        if not read.is_set(keyword):
            return
        names, ours = read.answer.split_names(keyword), read.supported[argument]
        known = tuple([name for name in names if name in ours])
        unknown = tuple([name for name in names if name not in ours])
        if not known:
            raise ConfigError(
                f"{keyword} for {read.answer.question.host} names no algorithm that hussh has: "
                f"{', '.join(names)}; it has {', '.join(ours)}"
            )
        into.options[argument] = known
        if unknown:
            into.unknown[keyword] = unknown

    return line


_METHODS = ("publickey", "keyboard-interactive", "password")


def _follow_methods(read: Reader, into: Followed) -> None:
    order = read.answer.split_names("preferredauthentications") or _METHODS
    off = set()
    if read.answer.is_no("passwordauthentication"):
        off.add("password")
    if read.answer.is_no("kbdinteractiveauthentication"):
        off.add("keyboard-interactive")
    if read.answer.is_no("pubkeyauthentication"):
        off.add("publickey")
    methods = {*_METHODS} - off
    if read.answer.is_yes("gssapiauthentication"):
        into.options["gssapi"] = True
        methods.add("gssapi-with-mic")
    order = (
        order if read.answer.get_one("preferredauthentications") else ("gssapi-with-mic", *order)
    )
    allowed = tuple([name for name in order if name in methods])
    if read.is_set("preferredauthentications") or off:
        into.more["methods"] = allowed


def _follow_signatures(read: Reader, into: Followed) -> None:
    if read.is_set("pubkeyacceptedalgorithms"):
        into.more["signature_algorithms"] = read.answer.split_names("pubkeyacceptedalgorithms")


def _follow_authorities(read: Reader, into: Followed) -> None:
    if read.is_set("casignaturealgorithms"):
        into.more["ca_algorithms"] = read.answer.split_names("casignaturealgorithms")


def _rekey(read: Reader, into: Followed) -> None:
    if not read.is_set("rekeylimit"):
        return
    words = read.answer.get_one("rekeylimit").split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"RekeyLimit for {read.answer.question.host} is not of two numbers")
    into.more["rekey_bytes"], seconds = map(int, words)
    if seconds:
        into.options["rekey_interval"] = seconds


def _follow_rsa_size(read: Reader, into: Followed) -> None:
    if read.is_set("requiredrsasize"):
        into.options["required_rsa_size"] = _read_number(read, "requiredrsasize")


def _follow_times(read: Reader, into: Followed) -> None:
    if read.is_set("connecttimeout"):
        into.more["connect_timeout"] = float(_read_number(read, "connecttimeout"))
    if read.is_set("serveraliveinterval"):
        into.options["keepalive_interval"] = _read_number(read, "serveraliveinterval")
    if read.is_set("serveralivecountmax"):
        into.more["keepalive_count"] = _read_number(read, "serveralivecountmax")


def _read_number(read: Reader, keyword: str) -> int:
    value = read.answer.get_one(keyword)
    if not value.isascii() or not value.isdigit():
        raise ConfigError(f"{keyword} for {read.answer.question.host} is no number: {value}")
    return int(value)


def _follow_compression(read: Reader, into: Followed) -> None:
    if read.answer.is_yes("compression"):
        into.options["compression"] = True


def _follow_socket(read: Reader, into: Followed) -> None:
    if read.is_set("bindaddress"):
        into.options["bind_address"] = read.answer.get_one("bindaddress")
    if read.is_set("addressfamily"):
        into.options["family"] = read.answer.get_one("addressfamily")


def _follow_sessions(read: Reader, into: Followed) -> None:
    pairs = [value.partition("=") for value in read.answer.get_many("setenv")]
    if pairs:
        into.more["env"] = tuple([(name, value) for name, _, value in pairs])
    value = read.answer.get_one("forwardagent")
    if value.startswith("$"):
        into.more["forward_agent"] = read.environ.get(value[1:].strip("{}")) or False
    elif value and not read.answer.is_no("forwardagent"):
        into.more["forward_agent"] = True if read.answer.is_yes("forwardagent") else value


#: Keywords, and what follows them; in this order.
_TABLE: tuple[tuple[tuple[str, ...], Callable[[Reader, Followed], None]], ...] = (
    (("stricthostkeychecking",), _follow_policy),
    (("userknownhostsfile", "globalknownhostsfile"), _follow_known_hosts),
    (("hostkeyalias",), _follow_alias),
    (("revokedhostkeys",), _follow_revoked),
    (("knownhostscommand",), _follow_known_hosts_command),
    (("identityfile", "certificatefile", "identitiesonly"), _follow_identities),
    (("identityagent",), _follow_agent),
    (("kexalgorithms",), _make_follower("kexalgorithms", "key_exchange")),
    (("ciphers",), _make_follower("ciphers", "ciphers")),
    (("macs",), _make_follower("macs", "macs")),
    (("hostkeyalgorithms",), _make_follower("hostkeyalgorithms", "host_key_algorithms")),
    (("pubkeyacceptedalgorithms",), _follow_signatures),
    (("casignaturealgorithms",), _follow_authorities),
    (("requiredrsasize",), _follow_rsa_size),
    (("rekeylimit",), _rekey),
    (
        (
            "preferredauthentications",
            "passwordauthentication",
            "kbdinteractiveauthentication",
            "pubkeyauthentication",
            "gssapiauthentication",
        ),
        _follow_methods,
    ),
    (("connecttimeout", "serveraliveinterval", "serveralivecountmax"), _follow_times),
    (("compression",), _follow_compression),
    (("bindaddress", "addressfamily"), _follow_socket),
    (("setenv", "forwardagent"), _follow_sessions),
)
#: `way` follows these; and what says for whom an answer is, or follows from others.
_OF_THE_WAY = ("host", "hostname", "user", "port", "proxyjump", "proxycommand", "updatehostkeys")
_FOLLOWED = {keyword for keywords, _ in _TABLE for keyword in keywords} | {*_OF_THE_WAY}

#: What would be less safe if it were ignored, unless it has one of these values, and why.
_UNSAFE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "verifyhostkeydns": (("no", "false", "ask"), "hussh asks no DNS for keys"),
    "checkhostip": (("no", "false"), "hussh checks the name's key only, not the address's"),
    "proxyusefdpass": (("no", "false"), "a proxy command cannot pass a descriptor to hussh"),
}


def follow(read: Reader) -> Followed:
    """Return the options of a hop.

    Raises:
        ConfigError: something can neither be followed nor be ignored safely.
    """
    for keyword, (safe, why) in _UNSAFE.items():
        value = read.answer.get_one(keyword).lower()
        if value and value not in safe and read.is_set(keyword):
            raise read.make_error(keyword, why)
    into = Followed()
    for _, line in _TABLE:
        line(read, into)
    into.ignored = tuple(
        [
            keyword
            for keyword in {**read.answer.values, **read.usual.values}
            if keyword not in _FOLLOWED and read.is_set(keyword)
        ]
    )
    return into
