"""nftables of a namespace, by libnftables or the nft program."""

from __future__ import annotations

from pytest_netns.checks import check_text
from pytest_netns.kernel.nftables import Nftables
from pytest_netns.stack.handle import Handle


def nft(namespace: Handle, ruleset: str) -> str:
    """Load an nftables ruleset, or run any nft(8) commands, as one transaction; returns what they print.

    Args:
        ruleset: as in a file for ``nft -f``.

    Raises:
        CommandError: nft's own message, with the line; nothing has taken effect.
        UnsupportedError: neither libnftables nor the nft program is installed.

    Example:
        >>> red.nft("add table inet filter")
    """
    check_text("ruleset", ruleset)
    return nftables_of(namespace).run(ruleset)


def nft_ruleset(namespace: Handle) -> list[dict[str, object]]:
    """All its nftables rules, in the form of libnftables-json(5).

    Raises:
        CommandError: nft's own message.
        UnsupportedError: neither libnftables nor the nft program is installed.

    Example:
        >>> red.nft_ruleset()
    """
    return nftables_of(namespace).ruleset()


def nft_with_handles(namespace: Handle) -> str:
    """All its nftables rules as text, each with the handle that ``delete rule`` takes (``nft -a list ruleset``).

    Raises:
        CommandError: nft's own message.
        UnsupportedError: neither libnftables nor the nft program is installed.

    Example:
        >>> print(red.nft_with_handles())
    """
    return nftables_of(namespace).with_handles()


def nftables_of(namespace: Handle) -> Nftables:
    """What talks to its nftables; kept until the namespace is closed."""
    fd = namespace.fd  # raises if it is closed
    if namespace._nftables is None:
        namespace._nftables = Nftables(fd, namespace.name)
    return namespace._nftables
