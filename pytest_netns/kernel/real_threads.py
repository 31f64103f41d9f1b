"""Whether threads are real: gevent and eventlet can replace them with greenlets, which share one thread."""

from __future__ import annotations

import sys

from pytest_netns.errors import NetnsError

#: Functions that this package relies on and gevent can replace: handing work to a thread, starting processes from it.
_GEVENT = ("threading", "queue", "subprocess")


_SHARED = "threads are greenlets then, which share one thread, and its network namespace; patch only the rest"
_CURE = "or run what needs it in a process of its own: host.spawn([sys.executable, ...])"


def check_threads() -> None:
    """Raise NetnsError if threads are greenlets: a network namespace is per thread, and greenlets share one."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and (patched := [name for name in _GEVENT if monkey.is_module_patched(name)]):
        raise NetnsError(
            f"gevent has replaced {', '.join(patched)}: {_SHARED}: "
            f"gevent.monkey.patch_all(thread=False, queue=False, subprocess=False), {_CURE}"
        )
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(map(patcher.is_monkey_patched, ("thread", "select"))):
        raise NetnsError(
            f"eventlet has replaced threads or select: {_SHARED}: "
            f"eventlet.monkey_patch(thread=False, select=False), {_CURE}"
        )
