"""``--netns-isolate=class|module|session``: what a namespace is shared by, and ``--netns-isolate-interface``."""

from __future__ import annotations

import pytest

from .inner import Project, User

PROLOGUE = """
import os, socket, unittest
import pytest

def here():
    return os.readlink("/proc/thread-self/ns/net")

WHERE = {}

def note(what):
    '''Where that was; and that it is there again.'''
    assert WHERE.setdefault(what, here()) == here(), what

def serve():
    return socket.create_server(("127.0.0.1", 8080))

def visit():
    socket.create_connection(("127.0.0.1", 8080), timeout=5).close()
"""

SCOPES = {
    "wide_conftest": """
    import os, pytest

    SEEN = []

    def here():
        return os.readlink("/proc/thread-self/ns/net")

    @pytest.fixture(scope="session", autouse=True)
    def wide():
        SEEN.append(here())
        yield
        assert SEEN[0] == here()
    """,
    "test_inside": PROLOGUE
    + """
@pytest.fixture(scope="module")
def of_module():
    note("module")
    yield
    note("module")

@pytest.fixture(scope="class")
def of_class():
    note("class")
    yield
    note("class")

def setup_module():
    note("module")

def teardown_module():
    note("module")
    wide = sys_wide()
    assert (WHERE["module"] == wide) == (UNIT in ("test", "class", "session"))
    assert (WHERE["class"] == WHERE["module"]) == (UNIT != "class")
    assert (WHERE["test"] == WHERE["class"]) == (UNIT != "test")

def sys_wide():
    from conftest import SEEN
    return SEEN[0]

class TestIt:
    @classmethod
    def setup_class(cls):
        note("class")

    @classmethod
    def teardown_class(cls):
        note("class")

    def test_one(self, of_module, of_class):
        note("test")

    def test_two(self, of_module, of_class):
        if UNIT == "test":
            assert here() != sys_wide()
        else:
            note("test")

class TestUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = here()

    @classmethod
    def tearDownClass(cls):
        assert cls.where == here()

    def test_one(self):
        assert (self.where == here()) == (UNIT != "test")

    test_two = test_one

def test_function():
    assert (here() == WHERE["module"]) == (UNIT in ("module", "session"))
""",
}


@pytest.mark.parametrize("unit", ["test", "class", "module", "session"])
def test_fixtures_as_wide_as_the_unit_are_inside_and_wider_ones_at_home(
    project: Project, user: User, unit: str
) -> None:
    project.write("conftest.py", SCOPES["wide_conftest"])
    project.write("test_inside.py", SCOPES["test_inside"] + f"\nUNIT = {unit!r}\n")
    project.run(f"--netns-isolate={unit}", user=user).assert_outcomes(passed=5)


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_server_of_a_fixture_is_where_the_tests_of_its_unit_are(project: Project, user: User, scope: str) -> None:
    for name in ("test_first.py", "test_second.py"):
        project.write(
            name,
            PROLOGUE
            + f"""
@pytest.fixture(scope="{scope}", autouse={scope != "session"})
def server():
    with serve():
        yield

class TestIt:
    def test_one(self, server):
        visit()

    test_two = test_one
""",
        )
    if scope == "session":
        project.write("conftest.py", (project.folder / "test_first.py").read_text().partition("class")[0])
        for name in ("test_first.py", "test_second.py"):
            project.write(name, PROLOGUE + "\nclass TestIt:\n    def test_one(self, server):\n        visit()\n")
    passed = 2 if scope == "session" else 4
    project.run(f"--netns-isolate={scope}", user=user).assert_outcomes(passed=passed)
    project.ini(f"netns_isolate = {scope}")
    project.run(user=user).assert_outcomes(passed=passed)
    project.ini()
    project.run(user=user, env={"PYTEST_NETNS_ISOLATE": scope}).assert_outcomes(passed=passed)


def test_workers_have_a_session_each_and_never_collide(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        PROLOGUE
        + """
from outside import tell_outside, wait_for_outside

@pytest.fixture(scope="session")
def server(worker_id):
    with serve():
        tell_outside(worker=worker_id)
        wait_for_outside()
        yield

@pytest.mark.parametrize("number", range(4))
def test_it(server, number):
    visit()
""",
    )
    with project.start("-p", "xdist", "-n", "2", "--dist=load", "--netns-isolate=session", user=user) as running:
        said = running.report(), running.report()
        assert {each["worker"] for each in said} == {"gw0", "gw1"}, "both hold their port now"
        running.go_on()
        running.go_on()
        running.result().assert_outcomes(passed=4)


def test_a_marker_says_the_scope_and_the_nearest_one_is_believed(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        PROLOGUE
        + """
HOME = []

@pytest.fixture(scope="module", autouse=True)
def at_first():
    HOME.append(here())  # the first test is not isolated
    yield
    assert here() == HOME[0]

@pytest.fixture(scope="module")
def late():
    note("module")
    yield
    note("module")

def test_at_home():
    assert here() == HOME[0]

@pytest.mark.netns(scope="module")
class TestThem:
    def test_one(self, late):
        assert here() != HOME[0]
        note("module")

    def test_two(self, late):
        note("module")

    @pytest.mark.netns(scope="test")
    def test_alone(self, late):
        assert here() not in (HOME[0], WHERE["module"])

def test_at_home_again():
    assert here() == HOME[0]
""",
    )
    project.run(user=user).assert_outcomes(passed=5)


def test_an_interrupted_session_tears_its_fixtures_down_inside(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        PROLOGUE
        + """
@pytest.fixture(scope="session")
def wide():
    where = here()
    yield
    print("TORN DOWN", where == here())

def test_one(wide):
    pass

def test_two(wide):
    raise KeyboardInterrupt
""",
    )
    result = project.run("-s", "--netns-isolate=session", user=user)
    assert "TORN DOWN True" in result.stdout.str()


def test_a_namespace_of_a_module_ends_with_it(project: Project, user: User) -> None:
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        project.write(
            name,
            """
            import os

            def count():
                return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("net:") for fd in os.listdir("/proc/self/fd")
                           if os.path.lexists(f"/proc/self/fd/{fd}"))

            def test_one():
                import conftest
                conftest.COUNTS.append(count())
                assert len(set(conftest.COUNTS)) == 1, conftest.COUNTS
            """,
        )
    project.write("conftest.py", "COUNTS = []\n")
    project.run("--netns-isolate=module", user=user).assert_outcomes(passed=3)


@pytest.mark.parametrize("scope", ["session", "module"])
def test_a_refused_connection_names_who_listens_at_home(project: Project, user: User, scope: str) -> None:
    project.write(
        "test_inside.py",
        PROLOGUE
        + f"""
@pytest.fixture(scope="{scope}")
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()

def test_it(server):
    socket.create_connection(server, timeout=5)

def test_of_something_else(server):
    port = server[1]
    socket.create_connection(("127.0.0.1", 9), timeout=5)

def test_of_another_one_that_is_at_hand(server):
    host, port = server
    other = ("127.0.0.1", 9)
    with socket.socket() as sock:
        sock.connect(other)
""",
    )
    result = project.run("--netns-isolate", user=user)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*netns: refused*",
            f"port * is listened on at home, by fixture `server` ({scope}), and the test is in a namespace of its own",
            f"have both in one: --netns-isolate={scope}, or @pytest.mark.netns(scope='{scope}')*",
        ]
    )
    assert result.stdout.str().count("is listened on at home") == 1


CLIENTS = {
    "a tuple": "with socket.socket() as sock: sock.connect(server)",
    "a port": "with socket.socket() as sock: sock.connect(('127.0.0.1', port))",
    "several lines": "socket.create_connection(\n        ('127.0.0.1',\n         port),\n        timeout=5,\n    )",
    "a URL": "urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=5)",
    "asyncio": "asyncio.run(asyncio.open_connection('127.0.0.1', number))",
    "a program": "pytest.fail(f'127.0.0.1:{number}: Connection refused')",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_port_is_found_however_it_is_tried(project: Project, client: str) -> None:
    project.write(
        "test_inside.py",
        PROLOGUE
        + f"""
import asyncio
import urllib.request

@pytest.fixture(scope="session")
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()

def test_it(server):
    host, port = server
    number = port
    {CLIENTS[client]}
""",
    )
    result = project.run("--netns-isolate")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["port * is listened on at home, by fixture `server` (session), and the test is *"])


# ----------------------------------------------------------------------------------------------------------- interface

MACHINE = (
    PROLOGUE
    + """
import struct

def own(family, towards):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((towards, 9))
        return sock.getsockname()[0]

def test_it():
    assert "eth0" in {name for _, name in socket.if_nameindex()}
    assert own(socket.AF_INET, "192.0.2.1") == own(socket.AF_INET, "224.0.0.251") == "10.0.2.15"
    assert own(socket.AF_INET6, "2001:db8::1") == "fd00:a00:2::f"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + bytes(4))
        sock.bind(("", 5353))
        sock.sendto(b"here", ("224.0.0.251", 5353))
        sock.settimeout(5)
        assert sock.recv(9) == b"here"
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        group = socket.inet_pton(socket.AF_INET6, "ff02::fb") + struct.pack("@I", 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    for peer in ("10.0.2.2", "fd00:a00:2::2"):  # it is there
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((peer, 9), timeout=5)
    with pytest.raises(TimeoutError):  # and nothing gets out
        socket.create_connection(("192.0.2.1", 9), timeout=0.2)

test_again = test_it
"""
)


@pytest.mark.parametrize("unit", ["test", "session"])
def test_an_isolated_namespace_can_look_like_a_machine(project: Project, user: User, unit: str) -> None:
    project.write("test_inside.py", MACHINE)
    project.run(f"--netns-isolate={unit}", "--netns-isolate-interface=eth0", user=user).assert_outcomes(passed=2)


def test_a_marker_can_ask_for_the_interface(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        MACHINE.replace("def test_it", "@pytest.mark.netns(interface='eth0')\ndef test_it")
        + """
@pytest.mark.netns
def test_without():
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
""",
    )
    project.run(user=user).assert_outcomes(passed=3)


@pytest.mark.parametrize("name", ["lo", "a" * 16, "a/b", "."])
def test_a_name_that_no_interface_can_have_is_a_usage_error(project: Project, name: str) -> None:
    project.write("test_inside.py", "def test_it():\n    pass\n")
    result = project.run(f"--netns-isolate-interface={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    project.write(
        "test_inside.py", f"import pytest\n@pytest.mark.netns(interface={name!r})\ndef test_it():\n    pass\n"
    )
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR


def test_a_unit_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    project.write("test_inside.py", "import pytest\n@pytest.mark.netns(scope='package')\ndef test_it():\n    pass\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "a scope is 'test', 'class', 'module', 'session'" in result.stdout.str()
    assert project.run("--netns-isolate=package").ret == pytest.ExitCode.USAGE_ERROR
    assert project.run(env={"PYTEST_NETNS_ISOLATE": "package"}).ret == pytest.ExitCode.USAGE_ERROR


def test_a_path_behind_the_bare_option_is_a_path(project: Project) -> None:
    project.write("test_inside.py", "def test_it():\n    pass\n")
    project.run("--netns-isolate", "test_inside.py").assert_outcomes(passed=1)
