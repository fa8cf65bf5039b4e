# What the scripts share: getting what they need, a virtual environment, the build.
# Sourced by the scripts that need an environment or a build; does nothing by itself.
# shellcheck shell=sh
#
# Environment, all optional:
#   HUSSH_PYTHON  the Python to use      (else Debian's own, else python3)
#   HUSSH_VENV    the environment folder (else .venv here)
#   HUSSH_CACHE   where vendor/fetch.py keeps its download (else ~/.cache/hussh)

set -eu
cd "$(dirname "$0")/.."
TOP=$(pwd)
VENV=${HUSSH_VENV:-$TOP/.venv}
PATH=$PATH:/usr/sbin:/sbin # sshd and ip, for users who are not root
export PATH
# Hundreds of interpreters start in a run, and each would compile all of hussh and of the tests.
unset PYTHONDONTWRITEBYTECODE

PACKAGES="ca-certificates gcc iproute2 libc6-dev libssl-dev netbase openssh-client openssh-server
          patch python3 python3-dev python3-venv zlib1g-dev"
EXTRA_PACKAGES="dropbear-bin krb5-admin-server krb5-kdc libkrb5-dev netcat-openbsd socat strace
                sudo tinysshd" # without them a few tests are skipped or use a stand-in
POLICY=/usr/sbin/policy-rc.d

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Run a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Print those of the given packages that are not installed.
missing_packages() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

# Install what is missing, on Debian and its relatives.
install_packages() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        # Elsewhere nothing is installed, but all that is missing is named, with the line to say.
        scripts/prerequisites test "${HUSSH_PYTHON:-python3}" || exit 1
        return 0
    fi
    # shellcheck disable=SC2086 # lists
    missing=$(missing_packages $PACKAGES) extra=$(missing_packages $EXTRA_PACKAGES)
    if [ "$(id -u)" != 0 ]; then
        # Nobody is asked for a password, or sent away, because of the extras.
        sudo -n true 2>/dev/null || extra=
        if [ -n "$missing" ] && ! command -v sudo >/dev/null; then
            die "missing: $missing- run me as root, or let root say: apt-get install $missing"
        fi
    fi
    missing=$missing$extra
    [ -n "$missing" ] || return 0
    say "installing $missing"
    log=$(mktemp)
    trap 'allow_daemons; rm -f "$log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    forbid_daemons
    # One list that cannot be had need not stop us: what counts is the installation.
    narrate "$log" apt update || true
    # shellcheck disable=SC2086 # a list
    narrate "$log" apt install --no-install-recommends $missing || {
        grep '^[EW]:' "$log" >&2 || tail -n 20 "$log" >&2
        die "apt-get could not install $missing"
    }
    case $missing in
    *openssh-server*)
        # The tests start servers of their own: also after a reboot nothing shall listen.
        if command -v systemctl >/dev/null; then
            as_root systemctl --quiet disable ssh.service ssh.socket >/dev/null 2>&1 || true
        elif command -v update-rc.d >/dev/null; then
            as_root update-rc.d ssh disable >/dev/null 2>&1 || true
        fi
        say "the ssh service of this machine is installed but switched off"
        ;;
    esac
    case $missing in
    *tinysshd*)
        if command -v systemctl >/dev/null; then
            as_root systemctl --quiet disable tinysshd.socket >/dev/null 2>&1 || true
        fi
        ;;
    esac
    case $missing in
    *krb5-kdc*)
        if command -v systemctl >/dev/null; then
            as_root systemctl --quiet disable krb5-kdc.service krb5-admin-server.service \
                >/dev/null 2>&1 || true
        fi
        ;;
    esac
    allow_daemons
    rm -f "$log"
    trap - EXIT INT TERM
}

# narrate LOG COMMAND...: run it; all that it says goes to LOG, and what it does to our output, too.
narrate() {
    told=$1
    shift
    # A pipe has the exit status of its end: the log's last line tells that of the command.
    {
        "$@" </dev/null 2>&1 && echo "narrate: done"
    } | while IFS= read -r line; do
        printf '%s\n' "$line" >>"$told"
        case $line in
        Get:* | "Setting up "* | "Waiting for "*) say "$line" ;;
        "Collecting "*) say "${line%% (from *}" ;;
        esac
    done
    [ "$(tail -n 1 "$told")" = "narrate: done" ]
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@"
}

# A package must not start its daemon just because tests want its files (policy-rc.d(8)).
forbid_daemons() {
    forbidden=yes
    # One of ours is what an interrupted run left, or another one is using.
    if as_root test -e $POLICY && ! as_root grep -q 'made by hussh' $POLICY; then
        as_root mv $POLICY $POLICY.hussh-saved
    fi
    printf '#!/bin/sh\n# made by hussh, for a moment\nexit 101\n' | as_root tee $POLICY >/dev/null
    as_root chmod 755 $POLICY
}

allow_daemons() {
    [ "${forbidden:-no}" = yes ] || return 0
    if as_root grep -q 'made by hussh' $POLICY 2>/dev/null; then
        as_root rm -f $POLICY
    fi
    if as_root test -e $POLICY.hussh-saved; then
        as_root mv $POLICY.hussh-saved $POLICY
    fi
    forbidden=no
}

# Set PYTHON to the interpreter that the environment is made from.
choose_python() {
    PYTHON=${HUSSH_PYTHON:-}
    # Debian's own is the one whose headers and venv module were just installed.
    if [ -z "$PYTHON" ] && command -v dpkg-query >/dev/null && [ -x /usr/bin/python3 ]; then
        PYTHON=/usr/bin/python3
    fi
    : "${PYTHON:=python3}"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        die "$PYTHON is not Python 3.10 or later; name one in HUSSH_PYTHON"
}

# Make the environment of the tests and programs. The library is built beside, because pip uses one
# core, and waits for the network.
make_venv() {
    choose_python
    kerberos=
    ! command -v krb5-config >/dev/null || kerberos=kerberos
    # shellcheck disable=SC2086 # none or one
    ! is_made "$VENV" test engine $kerberos || return 0
    say "making the Python environment $VENV"
    if ! "$VENV/bin/python" -c '' 2>/dev/null ||
        [ "$("$VENV/bin/python" -VV)" != "$("$PYTHON" -VV)" ]; then
        "$PYTHON" -m venv --clear "$VENV"
    fi
    pip_install "$VENV" # what builds the library
    build_library &
    building=$!
    # shellcheck disable=SC2086
    pip_install "$VENV" test engine $kerberos
    wait "$building" || exit 1
    # pip would compile all, most of which nobody imports: such modules are compiled when they are.
    "$VENV/bin/python" -m compileall -q -x \
        '/(tests?|testing|pip|pygments|numpy|pandas|pyarrow|dask|distributed|sqlalchemy|twisted)/' \
        "$(packages_of "$VENV")" >/dev/null || true # of a file that is no Python there is no harm
    # shellcheck disable=SC2086
    note_made "$VENV" test engine $kerberos
}

# Make the environment of the checks, which sees the packages of the other one, too. It is apart so
# that the tests need not wait for it.
make_check_venv() {
    CHECK_VENV=$VENV/checks
    ! is_made "$CHECK_VENV" check site || return 0
    say "making the Python environment $CHECK_VENV"
    "$VENV/bin/python" -m venv --clear --without-pip "$CHECK_VENV"
    packages_of "$VENV" >"$(packages_of "$CHECK_VENV")/hussh-tests.pth"
    # An environment of before had them itself; pip would leave them out here.
    [ ! -e "$VENV/bin/ruff" ] || "$VENV/bin/python" -m pip uninstall -q -y ruff mypy pyright || true
    pip_install "$CHECK_VENV" check site
    for tool in ruff mypy pyright; do
        ln -sf "../checks/bin/$tool" "$VENV/bin/$tool"
    done
    note_made "$CHECK_VENV" check site
}

# is_made ENVIRONMENT GROUP...: whether it is what pyproject.toml asks for.
is_made() {
    [ "$(cat "$1/hussh-made-from" 2>/dev/null)" = "$(made_from "$@")" ] && "$1/bin/python" -c ''
}

note_made() {
    made_from "$@" >"$1/hussh-made-from"
}

# Identify what an environment is made from.
made_from() {
    shift
    { "$PYTHON" -VV && echo "$*" && cat pyproject.toml scripts/requirements.py; } | sha256sum
}

# Print where an environment has its packages.
packages_of() {
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# pip_install ENVIRONMENT GROUP...: install what hussh needs, and these groups.
pip_install() {
    into=$1
    shift
    list=$("$VENV/bin/python" scripts/requirements.py "$@")
    # By file, because requirements contain characters that shells like.
    printf '%s\n' "$list" >"$into/hussh-requirements.txt"
    narrate "$into/hussh-pip.log" "$into/bin/python" -m pip install --no-input --no-compile \
        --disable-pip-version-check --progress-bar off \
        --requirement "$into/hussh-requirements.txt" || {
        grep '^ERROR' "$into/hussh-pip.log" >&2 || tail -n 20 "$into/hussh-pip.log" >&2
        die "pip could not install what pyproject.toml asks for; is there a network?"
    }
}

# Build the extension module, unless it is the one that these sources give.
build_library() {
    if [ -f build/built-from ] && [ "$(fingerprint)" = "$(cat build/built-from)" ]; then
        return 0
    fi
    say "building the library"
    scripts/build "$VENV/bin/python"
    mkdir -p build
    fingerprint >build/built-from
}

# Identify the sources, the compiler, and the module that came of them.
fingerprint() {
    {
        set +e # of the headers only one place exists on most machines
        cc --version
        env | grep -E '^(CC|CFLAGS|CPPFLAGS|LDFLAGS|HUSSH_LIBSSH2_SOURCE)=' | sort
        cat /usr/include/openssl/opensslv.h /usr/include/*/openssl/opensslv.h
        # shellcheck disable=SC2046 # no blanks in these names
        sha256sum build_ffi.py setup.py scripts/build \
            $(find csrc vendor hussh/_native -type f ! -name '.*' ! -name 'test_*' \
                \( -name '*.[ch]' -o -name '*.cdef' -o -name '*.patch' -o -name '*.so' \
                -o -name '*.lock' -o -name fetch.py \) | sort)
    } 2>/dev/null | sha256sum
}

# Compile the tests where they have changed. The workers of pytest would all do it, at the same time.
compile_tests() {
    changed=$(find tests hussh "$VENV/hussh-made-from" \( -name '*.py' -o -name hussh-made-from \) \
        -newer build/tests-compiled 2>&1 | head -n 1)
    [ -n "$changed" ] || return 0
    touch build/tests-compiling
    "$VENV/bin/python" -m pytest -q --collect-only -p no:cacheprovider >/dev/null 2>&1 || true
    mv build/tests-compiling build/tests-compiled
}

# All of it.
prepare() {
    install_packages
    make_venv
    build_library
}

# Make the environment of scripts/wheels and scripts/release, apart from that of the tests.
make_release_venv() {
    choose_python
    VENV=${HUSSH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hussh}/venv-release
    want=$({ "$PYTHON" -VV && sed -n '/^wheels = /,/]/p' pyproject.toml; } | sha256sum)
    if [ "$(cat "$VENV/hussh-made-from" 2>/dev/null)" != "$want" ]; then
        say "making the Python environment $VENV"
        "$PYTHON" -m venv --clear "$VENV"
        "$VENV/bin/python" scripts/requirements.py wheels >"$VENV/hussh-requirements.txt"
        narrate "$VENV/hussh-pip.log" "$VENV/bin/python" -m pip install --no-input \
            --disable-pip-version-check --progress-bar off \
            --requirement "$VENV/hussh-requirements.txt" ||
            die "pip could not install what makes wheels; is there a network?"
        printf '%s\n' "$want" >"$VENV/hussh-made-from"
    fi
    PATH=$VENV/bin:$PATH # abi3audit and others are found there
    export PATH PYTHONPATH="$TOP"
}
