"""Whether threads are threads: gevent can make greenlets of them, which all share one."""

from __future__ import annotations

import sys

from pytest_netns.errors import NetnsError


def check_threads() -> None:
    """Raise NetnsError if threads are greenlets of one thread: a thread is what a network namespace belongs to."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise NetnsError(
            "gevent.monkey has made greenlets of threads, which all share the network namespace of one thread, so no "
            "code can be run inside a namespace; patch all but threads: gevent.monkey.patch_all(thread=False), or run "
            "these tests in a session that is not patched"
        )
