"""nftables rulesets as text, by libnftables in this process, or by the nft program where the library is missing.

The library loads a ruleset in 0.3 ms, the program in 2.6 ms. Both come from the same source, accept the same text,
commit it as one transaction and print the same error messages.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from pytest_netns.errors import CommandError, KernelError, NetnsError, UnsupportedError, WaitTimeout
from pytest_netns.kernel import reaper
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.syscalls import entered, visiting

_NFT_CTX_OUTPUT_HANDLE, _NFT_CTX_OUTPUT_JSON = 1 << 3, 1 << 4  # from <nftables/libnftables.h>
_CTX_DEFAULT = 0

# The library's parser has global state (flex, gmp), so only one call at a time.
_lock = Lock("running nft")


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    context = ctypes.c_void_p
    for name, result, arguments in (
        ("nft_ctx_new", context, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [context]),
        ("nft_ctx_buffer_output", ctypes.c_int, [context]),
        ("nft_ctx_buffer_error", ctypes.c_int, [context]),
        ("nft_ctx_get_output_buffer", ctypes.c_char_p, [context]),
        ("nft_ctx_get_error_buffer", ctypes.c_char_p, [context]),
        ("nft_ctx_output_set_flags", None, [context, ctypes.c_uint]),
        ("nft_run_cmd_from_filename", ctypes.c_int, [context, ctypes.c_char_p]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def _c_stderr() -> tuple[ctypes.c_void_p, int] | None:
    """The C library's variable ``stderr``, and a stream that discards all output; None where it cannot be set."""
    program = ctypes.CDLL(None)
    try:
        _ = program.gnu_get_libc_version  # in other C libraries the variable may be a constant
        variable = ctypes.c_void_p.in_dll(program, "stderr")
    except (AttributeError, ValueError):
        return None
    program.fmemopen.restype, program.fmemopen.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p],
    )
    sink = program.fmemopen(None, 4096, b"w")
    return (variable, sink) if sink else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings that libxtables, which parses iptables rules for libnftables, writes to C's ``stderr``.

    They would end up in the middle of pytest's output. Descriptor 2 is shared by all threads, so it is not redirected.
    """
    found = _c_stderr()
    if found is None:
        yield
        return
    variable, sink = found
    before = variable.value
    variable.value = sink
    try:
        yield
    finally:
        variable.value = before


def engine() -> str:
    """The engine that loads rulesets here: ``libnftables`` or ``nft``.

    Raises:
        UnsupportedError: neither is installed.
    """
    if _library() is not None:
        return "libnftables"
    if shutil.which("nft", path=_PATH) is not None:
        return "nft"
    raise UnsupportedError(
        "nftables rules need libnftables.so.1 or the nft program, and neither is installed; "
        "on Debian and Ubuntu: sudo apt-get install nftables"
    )


#: Comments and quoted text of a ruleset.
_INERT = re.compile(r'#[^\n]*|"[^"\n]*"')
#: A command at the beginning of a line or after a semicolon. (It is a keyword, so no object can have that name.)
_MONITORS = re.compile(r"(?:^|[;\n])\s*monitor\b")
#: Descriptors that the library uses at the same time: its sockets, the ruleset, name tables in /etc.
_NEEDED = 4
#: Timeout in seconds for a ruleset; a hundred thousand rules take several.
_DEADLINE = 60.0

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def _check_descriptors() -> None:
    """Raise OSError unless enough descriptors are free: the library calls exit(3) when it cannot open a file."""
    with ExitStack() as stack:
        for _ in range(_NEEDED):
            stack.callback(os.close, os.open("/", os.O_PATH | os.O_CLOEXEC))


class Nftables:
    """The ruleset of one network namespace.

    Args:
        netns: descriptor of the namespace.
        node: name of the node for messages.

    Raises:
        UnsupportedError: neither the library nor the program is installed.
    """

    def __init__(self, netns: int, node: str) -> None:
        self._netns = netns
        self._node = node
        self._context: int | None = None
        if engine() == "libnftables":
            library = _library()
            assert library is not None
            try:
                with _lock, entered(netns):  # its netlink socket belongs to the current namespace
                    _check_descriptors()
                    self._context = library.nft_ctx_new(_CTX_DEFAULT)
                    library.nft_ctx_buffer_output(self._context)
                    library.nft_ctx_buffer_error(self._context)
            except OSError as error:
                raise KernelError.of(error, "nft", node) from error

    def run(self, text: str) -> str:
        """Run nft commands as one transaction and return what they print.

        Raises:
            CommandError: nft's own message, with the line.
        """
        return self._run(text, 0)

    def with_handles(self) -> str:
        """The whole ruleset as text; each rule ends with ``# handle N``, the number by which traces refer to it."""
        return self._run("list ruleset", _NFT_CTX_OUTPUT_HANDLE)

    def ruleset(self) -> list[dict[str, object]]:
        """The whole ruleset in libnftables' JSON form (libnftables-json(5)), without the leading metainfo."""
        listed = json.loads(self._run("list ruleset", _NFT_CTX_OUTPUT_JSON) or '{"nftables": []}')["nftables"]
        return [item for item in listed if "metainfo" not in item]

    def _run(self, text: str, flags: int) -> str:
        try:
            return self._run_here(text, flags)
        except OSError as error:  # from opening descriptors
            raise KernelError.of(error, "nft -f -", self._node) from error

    def _run_here(self, text: str, flags: int) -> str:
        if _MONITORS.search(_INERT.sub("", text)):
            raise CommandError(
                f"nft in namespace {self._node!r}: 'monitor' never ends, and would keep this process from doing "
                "anything else; start it as a process of its own: spawn(['nft', 'monitor'])",
                ["nft", "monitor"],
            )
        if self._context is None:
            return self._by_program(text, flags)
        library = _library()
        assert library is not None
        with (
            _lock,
            entered(self._netns),
            ExitStack() as stack,
        ):  # interface names are resolved with a socket created now
            if self._context is None:  # closed by another thread
                raise NetnsError(f"nft in namespace {self._node!r}: it was closed, or its host has crashed")
            # From a file in memory: for a buffer, error messages have no line number and always quote the first line.
            file = os.memfd_create("ruleset", os.MFD_CLOEXEC)
            stack.callback(os.close, file)
            with open(file, "wb", closefd=False) as writer:
                writer.write(text.encode())
            path = f"/proc/self/fd/{file}"
            _check_descriptors()
            library.nft_ctx_output_set_flags(self._context, flags)
            stack.enter_context(_quiet())
            failed = library.nft_run_cmd_from_filename(self._context, path.encode())
            output = library.nft_ctx_get_output_buffer(self._context).decode()
            errors = library.nft_ctx_get_error_buffer(self._context).decode()
        if failed:
            self._refused(text, errors.replace(path + ":", "line "))
        return str(output)

    def _by_program(self, text: str, flags: int) -> str:
        # From stdin: with a file, "nft -j" prints nothing.
        switch = {_NFT_CTX_OUTPUT_JSON: "-j", _NFT_CTX_OUTPUT_HANDLE: "-a"}.get(flags)
        argv = ["nft", switch, *text.split()] if switch else ["nft", "-f", "-"]
        with visiting(self._netns):
            done = self._ended(argv, text)
        if done.returncode:
            self._refused(text, done.stderr.replace("/dev/stdin:", "line "))
        return done.stdout

    def _ended(self, argv: list[str], text: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": _PATH}
        try:
            return subprocess.run(
                argv, input=text, capture_output=True, text=True, check=False, env=env, timeout=_DEADLINE
            )
        except subprocess.TimeoutExpired:
            raise WaitTimeout(f"nft in namespace {self._node!r} has not ended within {_DEADLINE:g} s") from None

    def _refused(self, text: str, errors: str) -> None:
        numbered = "\n".join(f"{number:4} {line}" for number, line in enumerate(text.splitlines(), 1))
        if len(numbered) > 4000:
            numbered = numbered[:4000] + "\n..."
        raise CommandError(
            f"nft in namespace {self._node!r} refused a ruleset, and nothing of it took effect:\n{errors.strip()}\n"
            f"--- the ruleset:\n{numbered}",
            ["nft", "-f", "-"],
            1,
        )

    def close(self) -> None:
        """Free the library's context. Further calls do nothing. The rules last as long as the namespace."""
        with _lock:  # not while another thread uses it
            context, self._context = self._context, None
        library = _library()
        if context is not None and library is not None:
            reaper.later(lambda: library.nft_ctx_free(context))
