"""Every error this package raises.

A message says which operation failed, on which node, what the kernel answered, and what to do.
"""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Sequence


class NetnsError(Exception):
    """Base of all errors raised by pytest-netns.

    Example:
        >>> try:
        ...     red.interface("eth7")
        ... except NetnsError as error:
        ...     print(error)
    """


class PrivilegeError(NetnsError):
    """This process may not create network namespaces; the message names the cause and the fix.

    Example:
        >>> try:
        ...     enter_sandbox()
        ... except PrivilegeError as error:
        ...     print(error)
    """


#: What is to be done about limits that the kernel does not name.
_LIMITS = {
    _errno.EMFILE: "close what is not needed, or raise the limit of open files (ulimit -n)",
    _errno.ENFILE: "the whole machine has too many files open; raise the limit (sysctl fs.file-max)",
}


class KernelError(NetnsError):
    """The kernel refused a request.

    Attributes:
        errno: the kernel's errno, e.g. ``errno.EEXIST``.
        operation: the operation, in the syntax of ip(8), tc(8) or nft(8).
        node: name of the namespace it was sent to.
        detail: what the kernel or we can say beyond the errno, e.g. which limit was met; often empty.

    Example:
        >>> try:
        ...     red.add_route("192.168.15.0/24", interface="eth0")
        ... except KernelError as error:
        ...     print(error.errno, error.operation, error.node)
    """

    def __init__(self, errno: int, operation: str, node: str, detail: str = "") -> None:
        self.errno = errno
        self.operation = operation
        self.node = node
        detail = "; ".join(filter(None, (detail, _LIMITS.get(errno))))
        self.detail: str = detail
        # 0: nothing that the kernel has said, see ``of``.
        said = f"{os.strerror(errno)} ({_errno.errorcode.get(errno, errno)})" if errno else "not done"
        super().__init__(f"{operation!r} in namespace {node!r}: {said}" + (f": {detail}" if detail else ""))

    @classmethod
    def of(cls, error: OSError, operation: str, node: str, detail: str = "") -> KernelError:
        """The error that tells of an OSError. One without errno, as Python code raises them, is told by its own words.

        Args:
            error: what was refused.
            operation: the operation, in the syntax of ip(8), tc(8) or nft(8).
            node: name of the namespace it was sent to.
            detail: what can be said beyond the errno.
        """
        if error.errno:
            return cls(error.errno, operation, node, detail)
        return cls(0, operation, node, "; ".join(filter(None, (str(error), detail))))


class UnsupportedError(NetnsError):
    """This kernel or machine lacks a feature; the message names the module or package that brings it.

    Example:
        >>> try:
        ...     red.add_vlan("eth0.10", 10)
        ... except UnsupportedError as error:
        ...     print(error)
    """


class CommandError(NetnsError):
    """A command could not be started, or ended with a bad exit status.

    Attributes:
        argv: the command.
        returncode: its exit status; negative is the signal that ended it; None if it never started.
        stdout: all it wrote to standard output.
        stderr: all it wrote to standard error.

    Example:
        >>> try:
        ...     red.run(["false"])
        ... except CommandError as error:
        ...     print(error.returncode, error.stderr)
    """

    def __init__(
        self,
        message: str,
        argv: Sequence[str],
        returncode: int | None = None,
        stdout: str = "",
        stderr: str = "",
        *,
        hint: str = "",
    ) -> None:
        self.argv: list[str] = list(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(message + tail("stdout", stdout) + tail("stderr", stderr) + (f"\n{hint}" if hint else ""))


class ProcessDied(NetnsError):
    """A supervised process exited before it was ready, or unexpectedly before its test ended.

    Example:
        >>> try:
        ...     red.spawn(["false"], ready=80)
        ... except ProcessDied as error:
        ...     print(error)
    """


class WaitTimeout(NetnsError, TimeoutError):
    """A state was not reached in time; the message says what was awaited, what was last seen, and what to try.

    Example:
        >>> try:
        ...     red.run(["sleep", "60"], timeout=0.1)
        ... except WaitTimeout as error:
        ...     print(error)
    """


class TopologyError(NetnsError, ValueError):
    """An invalid name, address or combination of nodes; the message says what is allowed. The lab is unchanged.

    Example:
        >>> try:
        ...     lab.host("red")
        ... except TopologyError as error:
        ...     print(error)
    """


class ProbeFailure(AssertionError):
    """A failed assertion about the network: what was sent, what came back, and why, hop by hop.

    Not a NetnsError: pytest reports a failed assertion as FAILED, and a lab that cannot be built as ERROR.

    Example:
        >>> try:
        ...     assert_tcp_open(red, blue, 81)
        ... except ProbeFailure as failure:
        ...     print(failure)
    """

    #: The frame that came though none was to come, and the node that it was seen at: its way is told in the report.
    _unexpected: tuple[object, object] | None = None


class NetnsWarning(UserWarning):
    """A result is less reliable, e.g. a capture dropped frames.

    Example:
        >>> warnings.simplefilter("error", NetnsWarning)
    """


def tail(label: str, text: str, lines: int = 20) -> str:
    """The last lines of some output under a heading, for an error message; empty when there is no output."""
    rows = text.rstrip().splitlines()
    if not rows:
        return ""
    cut = f" (last {lines} of {len(rows)} lines)" if len(rows) > lines else ""
    return f"\n--- {label}{cut}:\n" + "\n".join(rows[-lines:])


def limit_hint(error: OSError) -> str:
    """Which limit was met and how to raise it, to append to a message; empty if it was none."""
    hint = _LIMITS.get(error.errno or 0)
    return f"; {hint}" if hint else ""
