"""Search path of programs: PATH, then the sbin directories, which ordinary users rarely have in theirs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

#: The directories of ip, nft and most daemons, which distributions leave out of an ordinary user's PATH.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path(environment: Mapping[str, str] = os.environ) -> str:
    """The PATH of an environment, followed by those directories of ``SBIN`` that are not in it."""
    path = environment.get("PATH", os.defpath)
    present = path.split(os.pathsep)
    return os.pathsep.join([path, *(folder for folder in SBIN if folder not in present)])


def find_program(name: str) -> str | None:
    """The path of a program, as ``Namespace.run`` finds it; None if there is none."""
    return shutil.which(name, path=search_path())


def find_in_sbin(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The path of a program that is in ``SBIN`` but not in the PATH of an environment; otherwise None."""
    if "/" in name or shutil.which(name, path=environment.get("PATH", os.defpath)) is not None:
        return None
    return shutil.which(name, path=os.pathsep.join(SBIN))
