"""How the documentation is built: ``tox -e docs``. Warnings are errors there, and every reference must resolve."""

from __future__ import annotations

import builtins
import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pytest-netns"
copyright = "The pytest-netns developers"
release = importlib.metadata.version("pytest-netns")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"pytest-netns {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "inherited-members": "Exception,AssertionError,int,tuple,dict,Mapping,MutableMapping",
}
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
# The build reads nothing from the network, so names of other projects are shown without a link. Ours must resolve.
_FOREIGN = [
    "argparse",
    "asyncio",
    "collections",
    "contextlib",
    "enum",
    "ipaddress",
    "os",
    "pathlib",
    "pyroute2",
    "pytest",
    "re",
    "scapy",
    "socket",
    "subprocess",
    "types",
    "typing",
]
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(_FOREIGN)})\..*"),
    (r"py:.*", rf"({'|'.join(name for name in dir(builtins) if name.isidentifier())}|optional|callable|Callable)"),
    # Names that are imported for type checkers only: of other projects, and our aliases, which reference/api.md tells.
    (
        r"py:.*",
        r"Packet|PacketList|SndRcvList|IPRoute|Address|Addresses|Argv|Destination|Method|Ready|Quantity|Engine|RouteTarget|Via|(routing\.)?NextHop|Pair|AbstractContextManager|Group|NetlinkSocket|LinkImpairOptions|Offload|Pair|Transport|Event|AbstractContextManager|streams\.\w+|routing\.NextHop",
    ),
    (
        r"py:.*",
        r"pytest_netns\.kernel\.netlink\.(socket|conntrack)\.(NetlinkSocket|Request|Connection)",
    ),  # for our own use
    (r"py:.*", r"(.*\.|~)?_[A-Z]\w*"),  # type variables
    (r"py:.*", r"pytest_netns\.stack\.streams\.Addressed"),  # whatever has an address
    # What stands below the author's words: see CONTRIBUTING.md.
    (
        r"py:.*",
        r"(pytest_netns\.(topology|process)\.\w+\.)?(AddressPlan|BaseNode|CableEnds|Failure|Network|Surroundings|Supervisor|Names|CrashState)",
    ),
]
