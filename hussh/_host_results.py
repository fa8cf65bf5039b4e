"""`HostResult`, `MultiResult` and their error: the outcome of one operation on many hosts.

`_multi` makes them. They are below `errors`, which has `PartialFailureException` from here, because
that error carries a `MultiResult` and a `MultiResult` raises it. Results compare by value, and
everything here can be pickled. Nothing here knows a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, overload

from ._error_base import HusshError
from ._results.ssh_result import SSHResult
from ._results.transfer_result import TransferResult

__all__ = ["HostResult", "MultiResult", "PartialFailureException", "check_result"]

D = TypeVar("D")

#: How many hosts the text of an exception names, and how many characters of each one's reason.
NAMED, MOST = 3, 200


class HostResult(SSHResult):
    """An `SSHResult` with its host, and the error of a failure.

    Attributes:
        host: as it was given.
        error: why there is no proper result: connecting failed, the time was over, the
            connection ended, a file operation failed. It is None if a command ran to its end,
            whatever its status. Its text is the end of `stderr`.
        transfer: what `sftp_put_dir` or `sftp_get_dir` copied there and what not; None after
            other operations.
    """

    __slots__ = ("host", "error", "transfer")

    def __init__(
        self,
        host: str,
        stdout: bytes = b"",
        stderr: bytes = b"",
        status: int = -1,
        signal: str | None = None,
        truncated: bool = False,
        error: HusshError | None = None,
        transfer: TransferResult | None = None,
        order: bytes = b"",
    ) -> None:
        super().__init__(stdout, stderr, status, signal, truncated, order)
        self.host: str = host
        self.error: HusshError | None = error
        self.transfer: TransferResult | None = transfer

    @classmethod
    def of(cls, host: str, result: SSHResult) -> HostResult:
        """Make the result of a command."""
        made = cls(host, *result._make_key())
        made._order = result._order
        return made

    @classmethod
    def of_transfer(cls, host: str, result: TransferResult) -> HostResult:
        """Make the result of copying a directory, a failure if some files have failed."""
        if not result.failed:
            return cls(host, b"Ok", status=0, transfer=result)
        first = result.failed[0].error
        error = first if isinstance(first, HusshError) else None
        lines = [str(path.error) for path in result.failed]
        stderr = "\n".join(lines).encode("utf-8", "replace")
        return cls(host, b"", stderr, -1, None, False, error, result)

    @classmethod
    def failed(cls, host: str, error: HusshError) -> HostResult:
        """Make the result of a failure: status -1, and the reason after the output so far."""
        partial = done = error.result
        if not isinstance(partial, SSHResult):
            partial = SSHResult()
        stderr = partial.stderr_bytes
        if stderr and not stderr.endswith(b"\n"):
            stderr += b"\n"
        stderr += _explain(error).encode("utf-8", "replace")
        transfer = done if isinstance(done, TransferResult) else None
        return cls(
            host,
            partial.stdout_bytes,
            stderr,
            -1,
            None,
            partial.truncated,
            error,
            transfer,
            partial._order,
        )

    @property
    def hop(self) -> str | None:
        """The hop that failed, as ``user@host:port``; None if none did."""
        return None if self.error is None else _find_origin(self.error).hop

    @property
    def phase(self) -> str | None:
        """What hussh was doing when it failed, see `hussh.errors`; None if nothing failed."""
        return None if self.error is None else _find_origin(self.error).phase

    def _make_key(self) -> tuple[Any, ...]:
        # Exceptions compare by identity, which pickling does not keep.
        error = self.error
        reasons = None if error is None else (type(error), str(error), error.hop_index, error.phase)
        return self.host, *super()._make_key(), self.transfer, reasons

    def __reduce__(self) -> tuple[type[HostResult], tuple[Any, ...]]:
        return HostResult, (*self._make_key()[:-2], self.error, self.transfer, self._order)


def _explain(error: HusshError) -> str:
    reason = error.own_text()
    if error.is_time_out and "timed out" not in reason.lower():
        reason = f"timed out: {reason}"
    origin = _find_origin(error)
    return reason if origin is error else f"{origin.own_text()}, and so: {reason}"


def _find_origin(error: HusshError) -> HusshError:
    """Return the error itself, or that of the bastion whose end caused it."""
    cause = error.__cause__
    return cause if isinstance(cause, HusshError) and cause.hop != error.hop else error


def _list_reasons(failed: MultiResult) -> str:
    """Return the first hosts with their reasons, for the text of an exception."""
    reasons = [f"{one.host}: {_shorten_reason(one)}" for one in failed.values()[:NAMED]]
    left = len(failed) - len(reasons)
    return "; ".join([*reasons, f"and {left} more"] if left else reasons)


def _shorten_reason(one: HostResult) -> str:
    if one.error is None:
        return f"status {one.status}" if one.signal is None else f"killed by SIG{one.signal}"
    reason = _explain(one.error)
    return reason if len(reason) <= MOST else f"{reason[:MOST]}…"


class MultiResult:
    """Results by host, in the order in which the hosts were given.

    You read it like a dict from host to `HostResult`. A host that was given more than once keeps
    every result: `keys`, `values`, `items`, `len` and iteration count each of them, ``[host]`` and
    `get` return the first, `get_all` returns all.
    """

    __slots__ = ("_results", "_places")

    def __init__(self, results: Iterable[HostResult] = ()) -> None:
        self._results = tuple(results)
        self._places: dict[str, int] | None = None  # of each host's first; made when needed

    # -- like a dict

    def keys(self) -> list[str]:
        return [result.host for result in self._results]

    def values(self) -> list[HostResult]:
        return list(self._results)

    def items(self) -> list[tuple[str, HostResult]]:
        return [(result.host, result) for result in self._results]

    @overload
    def get(self, host: str, default: None = None) -> HostResult | None: ...

    @overload
    def get(self, host: str, default: D) -> HostResult | D: ...

    def get(self, host: str, default: D | None = None) -> HostResult | D | None:
        place = self._find_first().get(host)
        return default if place is None else self._results[place]

    def get_all(self, host: str) -> list[HostResult]:
        """Return all results of a host; empty if there is none."""
        return [result for result in self._results if result.host == host]

    def __getitem__(self, host: str) -> HostResult:
        return self._results[self._find_first()[host]]

    def __contains__(self, host: object) -> bool:
        return host in self._find_first()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._results)

    def _find_first(self) -> dict[str, int]:
        if self._places is None:
            places: dict[str, int] = {}
            for place, result in enumerate(self._results):
                places.setdefault(result.host, place)
            self._places = places
        return self._places

    # -- good and bad

    @property
    def succeeded(self) -> MultiResult | None:
        """The results with status 0; None if there are none."""
        return MultiResult(r for r in self._results if r.status == 0) or None

    @property
    def failed(self) -> MultiResult | None:
        """The results with any other status; None if there are none."""
        return MultiResult(r for r in self._results if r.status != 0) or None

    def raise_if_any_failed(self) -> None:
        """Raise PartialFailureException, which has both parts, if `failed` is not None."""
        failed = self.failed
        if failed is not None:
            reasons = _list_reasons(failed)
            raise PartialFailureException(
                f"Operation failed on {len(failed)} of {len(self)} host(s): {reasons}",
                succeeded=self.succeeded,
                failed=failed,
            )

    # -- as a value

    def __eq__(self, other: object) -> bool:
        return self._results == other._results if isinstance(other, MultiResult) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._results)

    def __reduce__(self) -> tuple[type[MultiResult], tuple[tuple[HostResult, ...]]]:
        return MultiResult, (self._results,)

    def __repr__(self) -> str:
        good = sum(result.status == 0 for result in self._results)
        count = len(self._results)
        return f"MultiResult({count} hosts: {good} succeeded, {count - good} failed)"


class PartialFailureException(HusshError, RuntimeError):
    """An operation failed on some hosts, or on all.

    Attributes:
        succeeded, failed: the two parts of the `MultiResult`; if all hosts failed, `succeeded`
            is None.
    """

    __module__ = "hussh.errors"  # where users find it

    def __init__(
        self,
        text: str,
        *,
        succeeded: MultiResult | None = None,
        failed: MultiResult | None = None,
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.succeeded: MultiResult | None = succeeded
        self.failed: MultiResult = MultiResult() if failed is None else failed


def check_result(result: MultiResult, check: bool) -> MultiResult:
    """Return the result; with `check`, raise what `raise_if_any_failed` raises."""
    if check:
        result.raise_if_any_failed()
    return result
