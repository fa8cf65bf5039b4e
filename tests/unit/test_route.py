"""route: jump arguments into hops, checks of names and ports, proxy command tokens."""

from __future__ import annotations

import enum
import subprocess
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hussh._policy.route import (
    HopSpec,
    check_exclusive,
    check_host,
    check_port,
    check_route,
    check_username,
    expand_proxy_command,
    format_hop,
    is_none,
    parse_jump,
    resolve,
)
from tests.support.alphabet import ANY_CHARACTER

PURE = settings(deadline=None, database=None)


class Bastion:
    """Stands for a connection: the hops of its own way, itself last."""

    def __init__(self, *way: HopSpec) -> None:
        self.way = list(way)


class Other:
    """A connection of the other API."""


class Port(enum.IntEnum):
    SSH = 2222


def parse(value: object) -> list[HopSpec | Bastion] | None:
    return parse_jump(value, Bastion)


# Jump arguments


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("b", [HopSpec("b")]),
        ("b:2222", [HopSpec("b", 2222)]),
        ("u@b", [HopSpec("b", 22, "u")]),
        ("u@b:2222", [HopSpec("b", 2222, "u")]),
        ("u@domain@b", [HopSpec("b", 22, "u@domain")]),
        ("192.0.2.1:22", [HopSpec("192.0.2.1")]),
        ("::1", [HopSpec("::1")]),
        ("[::1]", [HopSpec("::1")]),
        ("u@[::1]:2222", [HopSpec("::1", 2222, "u")]),
        ("u@fe80::1%eth0", [HopSpec("fe80::1%eth0", 22, "u")]),
        ("[fe80::1%eth0]:2222", [HopSpec("fe80::1%eth0", 2222)]),
        ("b:0022", [HopSpec("b")]),
        ("ssh://b", [HopSpec("b")]),
        ("ssh://b/", [HopSpec("b")]),
        ("SSH://u@b:2222/", [HopSpec("b", 2222, "u")]),
        ("ssh://[::1]:2222", [HopSpec("::1", 2222)]),
        ("ssh://[fe80::1%25eth0]", [HopSpec("fe80::1%eth0")]),
        ("ssh://me%40corp@b", [HopSpec("b", 22, "me@corp")]),
        ("ssh://a%2Cb%3Ac@b", [HopSpec("b", 22, "a,b:c")]),
        ("ssh://j%C3%BCrgen@b", [HopSpec("b", 22, "j\u00fcrgen")]),
        (
            "u1@a:22,u2@[::1]:2222,ssh://c",
            [HopSpec("a", 22, "u1"), HopSpec("::1", 2222, "u2"), HopSpec("c")],
        ),
        (("b", 2222), [HopSpec("b", 2222)]),
        (("b", "2222"), [HopSpec("b", 2222)]),
        (("b", Port.SSH), [HopSpec("b", 2222)]),
        (("u@b", 22), [HopSpec("b", 22, "u")]),
        (("::1", 2222), [HopSpec("::1", 2222)]),
        (("[::1]", 2222), [HopSpec("::1", 2222)]),
        (["a", ("b", 23), "u@c,d:24"], None),
    ],
)
def test_parse_jump(value: object, expected: list[HopSpec] | None) -> None:
    """Every written form gives its hops in the order of travel."""
    if expected is None:
        expected = [HopSpec("a"), HopSpec("b", 23), HopSpec("c", 22, "u"), HopSpec("d", 24)]
    assert parse(value) == expected


@pytest.mark.parametrize("value", [None, "none", "None", "NONE", []])
def test_no_jump(value: object) -> None:
    """None, "none" as in ssh_config, and an empty chain are no jump."""
    assert parse(value) is None


def test_connections_pass_through() -> None:
    """A connection stays the very object, alone or at the head of a chain."""
    bastion = Bastion()
    assert parse(bastion) == [bastion]
    assert parse([bastion, "b", ("c", 23)]) == [bastion, HopSpec("b"), HopSpec("c", 23)]


@pytest.mark.parametrize("value", [["b", Bastion()], [Bastion(), Bastion()]])
def test_connections_come_first(value: object) -> None:
    """A connection after another hop is refused: its own way would silently replace the chain."""
    with pytest.raises(ValueError, match="a Connection can only be the first"):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        *("b:", "b:x", "b:0", "b:65536", "b:-1", "b:+22", "b: 22", "b:22 ", "b:2_2", "b:\u0662"),
        *("[::1]:", "[::1]:x", "ssh://b:x", "u@b:x", "a,b:x", "b:" + "1" * 5000),
        *(("b", 0), ("b", 65536), ("b", -1), ("b", "x"), ("b", ""), ("b", None)),
        *(("b", True), ("b", 22.0), ("b", b"22"), ("a", "b"), ["a", ("b", "x")]),
    ],
)
def test_bad_ports(value: object) -> None:
    """A port that is none is a TypeError with the words that hussh 0.3.3 used."""
    with pytest.raises(TypeError, match="port must be a valid integer"):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        *(1, b"b", {"host": "b"}, object(), Other(), ("b",), ("b", 22, "u"), (1, 22), (), {"b"}),
        *([None], [["b"]], ["b", 22], [Other()]),
    ],
)
def test_other_types(value: object) -> None:
    """Anything else is a TypeError that lists what is accepted, in the words of each API."""
    message = r"^proxy_jump must be {}, \(host, port\) tuple, or string$"
    with pytest.raises(TypeError, match=message.format("a Connection")):
        parse_jump(value, Bastion, "a Connection")
    with pytest.raises(TypeError, match=message.format("an AsyncConnection")):
        parse_jump(value, Bastion, "an AsyncConnection")


BAD_HOSTS = ["", "-oProxyCommand=x", "a b", "a\tb", "a\0b", "a\nb", "a\x7fb", "\u00a0", "a\u2028"]
BAD_HOSTS += [f"a{char}b" for char in "'`\"$\\;&<>|(){}"]
BAD_HOSTS += ["$(id)", "fe80::1%$(id)", "[fe80::1%;id]", "-", "a\u3000b"]
BAD_HOSTS += ["a/b", "a@b", "a,b", "[a]", "[::1", "::1]", "a:b:c", "[]", ":::", "\udc80"]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_hosts(host: str) -> None:
    """What is no name and no address is refused, alone and in a tuple."""
    with pytest.raises(ValueError, match=r"^host "):
        check_host(host)
    if "@" not in host:
        with pytest.raises(ValueError, match=r"^host "):
            parse((host, 22))


@pytest.mark.parametrize(
    "value",
    [
        *("", "u@", "@b", ",", "a,", ",a", "a,,b", "a, b", "-a", "u@-a", "a,none", ["none", "b"]),
        *("[::1]x", "[::1", "x[::1]:22", "a:1:2", "http://a", "ssh://", "ssh://a/b", "ssh://a?b"),
        *("ssh://a#b", "ssh://u;x=y@a", "ssh://%zz@a", "ssh://u%@a", "ssh://%ff@a", "ssh://a%00b"),
        *("ssh://u%00@a", "ssh://a%2fb", "ssh://[fe80::1%eth0]", "u\n@a", ("@a", 22)),
    ],
)
def test_bad_jump_strings(value: object) -> None:
    """A string that could be read in two ways, or names nothing, is refused."""
    with pytest.raises(ValueError, match=r"host|username|none|URL|address"):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        *("u:hunter2@b", "ssh://u:hunter2@b", "ssh://u:hunter2@b:22/", "ssh://:hunter2@b"),
        *("ssh://u:hunt/hunter2@b", "ssh://u:a,hunter2@b", "ssh://u:hunter2,a@b", "u:hunter2 @-b"),
        *("ssh://u:%hunter2@b", "ssh://u:hunter2", "a,u:hunter2@b:x", ("u:hunter2@b", 22)),
        *("u:hunter2:22,x@b", "u:hunter2 x:22,x@b", "-u:hunter2:22"),
    ],
)
def test_passwords_in_strings(value: object) -> None:
    """A password in a jump string is refused, and the error does not repeat it."""
    with pytest.raises((ValueError, TypeError)) as caught:
        parse(value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_password_error_names_the_way_out() -> None:
    """The error says how a bastion gets its own password."""
    with pytest.raises(ValueError, match=r"connection made with password=\.\.\. as proxy_jump"):
        parse("ssh://u:hunter2@b")


def test_resolve() -> None:
    """A hop without a user gets the target's; given users, ports and connections stay."""
    bastion = Bastion()
    hops = resolve([bastion, HopSpec("a"), HopSpec("b", 23, "u")], "me")
    assert hops == [bastion, HopSpec("a", 22, "me"), HopSpec("b", 23, "u")]


def test_exclusive() -> None:
    """Two proxies are one too many, and a disabled one does not count."""
    with pytest.raises(TypeError, match="mutually exclusive"):
        check_exclusive("b", "nc %h %p")
    with pytest.raises(TypeError, match="mutually exclusive"):
        check_exclusive(Bastion(), ["nc"])
    check_exclusive(None, "nc")
    check_exclusive("none", "nc")
    check_exclusive("b", "None")
    check_exclusive(None, None)


def test_is_none() -> None:
    """Only None and the word itself disable a proxy."""
    assert is_none(None)
    assert is_none("nOnE")
    assert not is_none("")
    assert not is_none(0)
    assert not is_none("none.example")


# Checks of single values


@pytest.mark.parametrize(
    "host", ["a", "a.example.", "192.0.2.1", "::1", "fe80::1%eth0", "b\u00fccher", "a_b", "a-b"]
)
def test_good_hosts(host: str) -> None:
    """Names and addresses come back as they are."""
    assert check_host(host) == host


def test_brackets_come_off() -> None:
    """A bracketed IPv6 address is the address."""
    assert check_host("[2001:db8::1]") == "2001:db8::1"


@pytest.mark.parametrize("check", [check_host, check_username])
@pytest.mark.parametrize("value", [None, 1, b"a"])
def test_names_are_strings(check: Any, value: object) -> None:
    """A host or user of another type is a TypeError."""
    with pytest.raises(TypeError, match="must be a string"):
        check(value)


@pytest.mark.parametrize(
    "username", ["root", "me@corp", "CORP\\Jane Doe", "j\u00fcrgen", "$x-y", "a\\b"]
)
def test_good_usernames(username: str) -> None:
    """Users of all kinds of directories are let through."""
    assert check_username(username) == username


@pytest.mark.parametrize(
    ("username", "why"),
    [
        ("", "is empty"),
        *((name, "contains control characters") for name in ("a\0", "a\n", "\x1b[2J", "\udc80")),
        *((name, "contains a word that begins with '-'") for name in ("-x", "-", "a -o b")),
        *((name, "ends with a backslash") for name in ("CORP\\", "\\")),
        *((f"a{char}b", "contains one of ") for char in "'`\";&<>|(){}"),
        ("$(touch pwned)", "contains one of "),
    ],
)
def test_bad_usernames(username: str, why: str) -> None:
    """What ssh(1) refuses as a user is refused, without being printed."""
    with pytest.raises(ValueError, match=f"^username {why}") as caught:
        check_username(username)
    assert len(username) < 2 or username not in str(caught.value)


def test_ports() -> None:
    """Integers and digits within the range of TCP are ports."""
    assert [check_port(p) for p in (1, 65535, "22", Port.SSH)] == [1, 65535, 22, 2222]


# Routes


def describe(bastion: Bastion) -> list[HopSpec]:
    return bastion.way


def test_longest_route() -> None:
    """Ten jump hosts are allowed, eleven are not, however they are written."""
    hops = [HopSpec(f"h{number}") for number in range(11)]
    target = HopSpec("target", 22, "root")
    check_route(hops[:10], target)
    longest: list[HopSpec | Bastion] = [Bastion(*hops[:9]), hops[9]]
    check_route(longest, target, describe)
    ways: list[list[HopSpec | Bastion]] = [[*hops], [Bastion(*hops[:10]), hops[10]]]
    for way in ways:
        with pytest.raises(ValueError, match="11 jump hosts; more than 10"):
            check_route(way, target, describe)


@pytest.mark.parametrize(
    "hops",
    [
        [HopSpec("a"), HopSpec("b"), HopSpec("a")],
        [HopSpec("a"), HopSpec("A", 22, "root")],
        [HopSpec("target")],
        [Bastion(HopSpec("a", 22, "root"), HopSpec("b", 22, "root")), HopSpec("a")],
        [Bastion(HopSpec("target", 22, "root"))],
    ],
)
def test_cycles(hops: list[HopSpec | Bastion]) -> None:
    """The same user on the same server twice is a loop, also within a connection's own way."""
    with pytest.raises(ValueError, match=r"goes through root@(a|A|target):22 twice"):
        check_route(hops, HopSpec("target", 22, "root"), describe)


def test_no_cycles() -> None:
    """Another port or another user on the same host is another hop."""
    hops = [HopSpec("a"), HopSpec("a", 2222), HopSpec("a", 22, "u"), HopSpec("target", 22, "u")]
    check_route(hops, HopSpec("target", 22, "root"))


def test_format_hop() -> None:
    """Addresses stand in brackets, and a missing user leaves no trace."""
    assert format_hop("u", "b", 22) == "u@b:22"
    assert format_hop("u", "::1", 22) == "u@[::1]:22"
    assert format_hop(None, "b", 2222) == "b:2222"


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
NAMES = st.builds(
    str.__add__, st.sampled_from(LETTERS), st.text(f"{LETTERS}_.-", max_size=20)
).filter(lambda name: name != "none")
ADDRESSES = st.ip_addresses().map(str) | st.ip_addresses(v=6).map(lambda ip: f"{ip}%eth0")
HOSTS = NAMES | ADDRESSES
PORTS = st.integers(1, 65535)


def is_user(text: str) -> bool:
    try:
        check_username(text)
    except ValueError:
        return False
    return True


USERS = st.text(ANY_CHARACTER, min_size=1, max_size=12).filter(is_user)


def is_simple(user: str) -> bool:
    return ":" not in user and "," not in user and not user.lower().startswith("ssh://")


@PURE
@given(st.lists(st.tuples(HOSTS, PORTS, st.none() | USERS.filter(is_simple)), min_size=1))
def test_formatted_hops_parse_back(chain: list[tuple[str, int, str | None]]) -> None:
    """What `format_hop` prints is read as the same hops."""
    text = ",".join(format_hop(user, host, port) for host, port, user in chain)
    assert parse(text) == [HopSpec(*hop) for hop in chain]


@PURE
@given(HOSTS, PORTS, USERS)
def test_urls_parse_back(host: str, port: int, user: str) -> None:
    """Any user survives percent-encoding in a URL."""
    place = f"[{quote(host, safe=':')}]" if ":" in host else host
    assert parse(f"ssh://{quote(user, safe='')}@{place}:{port}") == [HopSpec(host, port, user)]


@PURE
@given(st.text(ANY_CHARACTER, max_size=30) | st.text("ab@:[]%,/-1 ", max_size=30))
@example("ssh://[::1]:22:22")
def test_any_string(text: str) -> None:
    """Any string gives safe hops that print and parse back, or one of the two documented errors."""
    try:
        hops = parse(text)
    except (TypeError, ValueError):
        return
    for hop in hops or []:
        assert isinstance(hop, HopSpec)
        assert check_host(hop.host) == hop.host
        assert 1 <= hop.port <= 65535
        if hop.username is None or is_simple(hop.username):
            assert parse(format_hop(hop.username, hop.host, hop.port)) == [hop]


# Proxy commands


@pytest.mark.parametrize(
    ("command", "expanded"),
    [
        ("nc %h %p", "nc b 2222"),
        ("x -l %r %n", "x -l u alias"),
        ("x %%h %%%h", "x %h %b"),
        ("a | b; c $X '%p'", "a | b; c $X '2222'"),
        ("ssh -W [%h]:%p x", "ssh -W [b]:2222 x"),
    ],
)
def test_string_commands(command: str, expanded: str) -> None:
    """A string runs under the shell, and its tokens are replaced once, from left to right."""
    argv = expand_proxy_command(command, "b", 2222, "u", "alias")
    assert argv == ["/bin/sh", "-c", f"exec {expanded}"]


def test_replaced_text_is_not_expanded_again() -> None:
    """A host that looks like a token stays as it is."""
    assert expand_proxy_command("nc %h %p", "%p%r%%", 22, "u")[2] == "exec nc %p%r%% 22"
    assert expand_proxy_command(["nc", "%h"], "%p%r", 22, "u") == ["nc", "%p%r"]


def test_list_commands() -> None:
    """A list is an argv: tokens are replaced within each argument and nothing is split."""
    argv = expand_proxy_command(
        [PurePosixPath("/opt/my proxy"), "--to=%h:%p", "", "%n $HOME", "100%%"], "b", 22, "u d"
    )
    assert argv == ["/opt/my proxy", "--to=b:22", "", "b $HOME", "100%"]
    assert expand_proxy_command(("nc", "%h"), "b", 22, "u") == ["nc", "b"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nc %x", "unknown token '%x'"),
        ("nc %H", "unknown token '%H'"),
        ("nc % h", "unknown token '% '"),
        ("nc %\n", "unknown token"),
        ("nc %", "lone '%'"),
        ("nc %%%", "lone '%'"),
        (["nc", "%x"], "unknown token '%x'"),
        (["nc", "%"], "lone '%'"),
        ("", "is empty"),
        (" \n", "is empty"),
        ([], "is empty"),
        ([""], "is empty"),
        ("a\0b", "NUL"),
        (["a", "b\0"], "NUL"),
    ],
)
def test_bad_commands(command: Any, message: str) -> None:
    """What cannot be expanded or run is a ValueError before anything starts."""
    with pytest.raises(ValueError, match=message):
        expand_proxy_command(command, "b", 22, "u")


@pytest.mark.parametrize("command", [None, 1, b"nc", {"nc"}, ["nc", 1], [b"nc"]])
def test_bad_command_types(command: Any) -> None:
    """A command is a string or a list of strings."""
    with pytest.raises(TypeError):
        expand_proxy_command(command, "b", 22, "u")


EVIL = ["a;b", "a b", "`a`", "$(a)", "a|b", "a&b", "a>b", "a'b", 'a"b', "a\\b", "*", "a?b", "[a]"]
EVIL += ["~", "#a", "a{b,c}", "!a", "(a)", "a=b", "\u00fc", "a\n"]
UNSAFE = ["-oProxyCommand=x", "a\nb", "a\0b", "\x1b", ""]


@pytest.mark.parametrize("token", ["%h", "%r", "%n"])
@pytest.mark.parametrize("value", EVIL + UNSAFE)
def test_strings_take_only_plain_values(token: str, value: str) -> None:
    """Nothing that a shell could interpret gets into a string, whichever token brings it."""
    values = {"%h": "b", "%r": "u", "%n": "n"} | {token: value}
    if token == "%n" and not value:
        return
    with pytest.raises(ValueError, match=token):
        expand_proxy_command(f"nc {token}", values["%h"], 22, values["%r"], values["%n"])


@pytest.mark.parametrize("value", UNSAFE)
def test_lists_refuse_options_and_control_characters(value: str) -> None:
    """Without a shell a value may still not be an option, empty, or hold control characters."""
    with pytest.raises(ValueError, match="%h"):
        expand_proxy_command(["nc", "%h"], value, 22, "u")


def test_values_that_are_not_used() -> None:
    """A user that is not plain does not matter to a command without %r."""
    assert expand_proxy_command("nc %h", "b", 22, "CORP\\Jane Doe")[2] == "exec nc b"


SHELLY = st.text("ab-%$`'\"\\ ;&|<>(){}[]*?~#!=:@,+./\n\t", max_size=8) | st.text(
    ANY_CHARACTER, max_size=8
)


@PURE
@given(SHELLY, SHELLY)
@example("-a", "u")
@example("%h", "%r")
def test_values_stay_one_argument(host: str, user: str) -> None:
    """Each value is exactly one argument of the command, or the command is refused."""
    try:
        argv = expand_proxy_command(["nc", "%h", "-l", "%r"], host, 22, user)
    except ValueError:
        pass
    else:
        assert argv == ["nc", host, "-l", user]
    try:
        argv = expand_proxy_command("nc %h -l %r", host, 22, user)
    except ValueError:
        return
    assert argv[2].split() == ["exec", "nc", host, "-l", user]


@settings(PURE, max_examples=25)
@given(SHELLY | st.text("aZ0_.%+-", min_size=1, max_size=8))
def test_the_shell_sees_one_argument(host: str) -> None:
    """A real /bin/sh passes on what was put in, unchanged."""
    try:
        argv = expand_proxy_command(r"printf '<%%s>' %h %r", host, 22, "u")
    except ValueError:
        assume(False)
    output = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
    assert output.decode() == f"<{host}><u>"
