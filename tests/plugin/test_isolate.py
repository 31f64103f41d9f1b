"""``--netns-isolate`` and what tests do in it: event loops, threads, pools, processes, classes, workers."""

from __future__ import annotations

import pytest

from .inner import Project, User

#: Where things are. A test's own namespace is ``mine()``; ``HOME`` is that of the session.
WHERE = """
import asyncio, os, socket, subprocess, sys, threading, time, unittest
from concurrent.futures import ThreadPoolExecutor
import pytest

def here():
    return os.readlink("/proc/thread-self/ns/net")

SEEN = set()

@pytest.fixture(scope="session", autouse=True)
def home():
    global HOME
    HOME = here()  # not at import: without root the session moves once it has collected

def mine():
    '''This test's namespace: not the session's, and no other test's.'''
    assert here() != HOME
    return here()

def fresh():
    '''The same, seen for the first time, by the number that the kernel gives to no other (socket(7)).'''
    with socket.socket() as sock:
        cookie = sock.getsockopt(socket.SOL_SOCKET, 71, 8)  # SO_NETNS_COOKIE
    assert cookie not in SEEN
    SEEN.add(cookie)
    return mine()

def serve():
    '''The port that every test uses.'''
    return socket.create_server(("127.0.0.1", 8080))
"""

ASYNC = """
async def test_server(number):
    fresh()
    async def greet(reader, writer):
        writer.write(here().encode())
        writer.close()
    server = await asyncio.start_server(greet, "localhost", 8080)
    reader, writer = await asyncio.open_connection("localhost", 8080)
    assert (await reader.read()).decode() == here()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()

async def test_work_in_threads(number):
    found = [await asyncio.to_thread(here) for _ in range(8)]
    found.append(await asyncio.get_running_loop().run_in_executor(None, here))
    found += await asyncio.gather(*(asyncio.to_thread(here) for _ in range(20)))
    assert set(found) == {mine()}

async def test_a_command(number):
    process = await asyncio.create_subprocess_exec("readlink", "/proc/self/ns/net", stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == mine()
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio_is_inside_with_its_threads_and_commands(
    project: Project, user: User, mode: str, scope: str
) -> None:
    mark = f"pytest.mark.asyncio(loop_scope={scope!r})"
    project.write(
        "test_inside.py", f"{WHERE}\npytestmark = [{mark}, pytest.mark.parametrize('number', [1, 2])]\n{ASYNC}"
    )
    project.ini("asyncio_default_fixture_loop_scope = function", f"asyncio_mode = {mode}")
    project.run("-p", "asyncio", "--netns-isolate", user=user, fresh=True).assert_outcomes(passed=6)


def test_async_fixtures_of_a_test_are_inside_and_those_of_wider_scope_are_not(project: Project) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
import pytest_asyncio

@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def wide():
    yield here()
    assert here() == HOME

@pytest_asyncio.fixture(loop_scope="session")
async def narrow():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 8080):
        yield here()
    mine()

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", [1, 2])
async def test_it(wide, narrow, number):
    assert wide == HOME
    assert narrow == mine()
""",
    )
    project.ini("asyncio_default_fixture_loop_scope = function")
    project.run("-p", "asyncio", "--netns-isolate", fresh=True).assert_outcomes(passed=2)


ANYIO = """
import anyio, anyio.from_thread, anyio.to_thread

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="{scope}", params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture(scope="{scope}")
async def loop_of_that_scope(anyio_backend):
    yield

@pytest.mark.parametrize("number", [1, 2])
async def test_it(loop_of_that_scope, number):
    fresh()
    for _ in range(4):
        assert await anyio.to_thread.run_sync(here) == here()
    done = await anyio.run_process(["readlink", "/proc/self/ns/net"])
    assert done.stdout.decode().strip() == here()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=8080):
        async with await anyio.connect_tcp("127.0.0.1", 8080):
            pass
    with anyio.from_thread.start_blocking_portal() as portal:
        assert portal.call(asyncio.sleep, 0, here()) == here()
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_anyio_is_inside_on_both_backends(project: Project, user: User, scope: str) -> None:
    project.write("test_inside.py", WHERE + ANYIO.replace("{scope}", scope))
    project.run("-p", "anyio", "--netns-isolate", user=user).assert_outcomes(passed=4)


def test_unittest_is_inside_but_for_what_serves_the_whole_class(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
class TestPlain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert here() == HOME

    @classmethod
    def tearDownClass(cls):
        assert here() == HOME

    def setUp(self):
        fresh()
        self.inside = here()
        self.addCleanup(lambda: self.assertEqual(here(), self.inside))

    def tearDown(self):
        assert here() == self.inside

    def test_one(self):
        assert here() == self.inside
        serve().close()

    test_two = test_one

class TestAsync(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        assert here() == HOME

    def setUp(self):
        self.inside = mine()

    async def asyncSetUp(self):
        assert here() == self.inside

    async def test_one(self):
        assert here() == self.inside == await asyncio.to_thread(here)
        async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 8080):
            pass

    test_two = test_one

    async def asyncTearDown(self):
        assert here() == self.inside

class TestXunit:
    def setup_class(self):
        assert here() == HOME

    def setup_method(self):
        self.inside = mine()

    def test_one(self):
        assert here() == self.inside

    def teardown_method(self):
        assert here() == self.inside

    def teardown_class(self):
        assert here() == HOME

def setup_module():
    assert here() == HOME

def teardown_module():
    assert here() == HOME
""",
    )
    project.run("--netns-isolate", user=user).assert_outcomes(passed=5)


def test_threads_and_commands_of_a_test_are_inside(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
def test_thread():
    found = []
    def outer():
        found.append(here())
        inner = threading.Thread(target=lambda: found.append(here()))
        inner.start()
        inner.join()
    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    assert found == [mine()] * 2

def test_command():
    for argv in (["readlink", "/proc/self/ns/net"], ["sh", "-c", "readlink /proc/self/ns/net & wait"]):
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == mine()

def test_pool():
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(lambda _: here(), range(20))) == {mine()}

def test_a_server_in_a_thread():
    with serve() as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        socket.create_connection(("127.0.0.1", 8080)).close()
        thread.join()

def test_no_way_out():
    with pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("192.0.2.1", 80), timeout=5)
""",
    )
    project.run("--netns-isolate", user=user).assert_outcomes(passed=5)


def test_work_for_an_older_pool_runs_where_it_comes_from(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
POOL = ThreadPoolExecutor(1)

def fail():
    raise LookupError(here())

@pytest.mark.netns
@pytest.mark.parametrize("number", [1, 2])
def test_inside(number):
    assert POOL.submit(here).result() == mine()
    assert POOL.submit(lambda *a, **k: (a, k), 1, two=2).result() == ((1,), {"two": 2})
    with pytest.raises(LookupError, match=str(here()).replace("[", ".").replace("]", ".")):
        POOL.submit(fail).result()

def test_outside():
    assert POOL.submit(here).result() == here() == HOME

def test_nothing_is_held_by_work_that_never_ran():
    # Of this namespace alone: meanwhile a thread may get another one ready for the next test.
    def held():
        numbers = (int(name) for name in os.listdir("/proc/self/fd"))
        return [fd for fd in numbers if is_of(fd, os.stat("/proc/thread-self/ns/net"))]
    def is_of(fd, namespace):
        try:
            return os.path.samestat(os.fstat(fd), namespace)
        except OSError:  # closed meanwhile: that of the listing, for one
            return False
    before = len(held())
    blocked = threading.Event()
    POOL.submit(blocked.wait)
    waiting = [POOL.submit(here) for _ in range(10)]
    assert all(each.cancel() for each in waiting)
    blocked.set()
    POOL.submit(here).result()
    POOL.shutdown()
    assert len(held()) <= before
""",
    )
    project.run("-p", "no:randomly", user=user).assert_outcomes(passed=4)


def test_two_workers_serve_the_same_port_at_the_same_time(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
import socket
import pytest
from outside import tell_outside, wait_for_outside

@pytest.mark.parametrize("number", [1, 2])
def test_it(number, worker_id):
    with socket.create_server(("127.0.0.1", 8080)) as server:
        tell_outside(worker=worker_id)
        wait_for_outside()
        socket.create_connection(("127.0.0.1", 8080)).close()
        server.accept()[0].close()
""",
    )
    with project.start("-p", "xdist", "-n", "2", "--dist=load", "--netns-isolate", user=user) as running:
        said = running.report(), running.report()
        assert {each["worker"] for each in said} == {"gw0", "gw1"}, "both hold their port now"
        running.go_on()
        running.go_on()
        running.result().assert_outcomes(passed=2)


# ----------------------------------------------------------------------------------- what a test sees of the isolation


def test_an_isolated_test_sees_no_thread_and_no_descriptor_of_ours_come_or_go(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
def descriptors():
    return set(os.listdir("/proc/self/fd"))

def wait_until_alone():
    # The kernel takes a thread away some microseconds after Python has joined it.
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0)

@pytest.mark.parametrize("number", range(6))
def test_it(number):
    assert threading.enumerate() == [threading.main_thread()]
    with ThreadPoolExecutor(1) as pool:
        known = descriptors()
        inside = pool.submit(lambda: (here(), descriptors())).result()
    assert inside == (mine(), known)
    wait_until_alone()
    assert os.listdir("/proc/self/task") == [str(os.getpid())]  # as os.fork() counts them
    before = descriptors()
    reader, writer = os.pipe()
    assert max(reader, writer) < 100  # ours are far above
    serve().close()
    os.close(reader)
    os.close(writer)
    for fd in reader, writer:
        with pytest.raises(OSError):
            os.close(fd)
    assert descriptors() == before
""",
    )
    project.run("--netns-isolate", user=user).assert_outcomes(passed=6)


@pytest.mark.parametrize("kept", ["none", "some"])
def test_a_descriptor_of_ours_that_a_test_has_closed_is_told_of_that_test_alone(
    project: Project, user: User, kept: str
) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + f"""
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it(number):
    fresh()
    if number == 2:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 700 and not ("{kept}" == "some" and HOME in os.readlink("/proc/self/fd/" + name)):
                os.close(int(name))

def test_at_the_end():
    fresh()
""",
    )
    result = project.run("-p", "no:randomly", "--netns-isolate", user=user)
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_it?2?*", "*which held network namespace * was closed by somebody else; look for*"]
    )


# ------------------------------------------------------------------------------------------------ what is around tests


def test_wider_fixtures_are_torn_down_at_home_whoever_comes_last(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
WHEN = []

@pytest.fixture(scope="module")
def wide():
    yield
    WHEN.append(here() == HOME)

@pytest.fixture(scope="module")
def broken(request):
    request.addfinalizer(lambda: WHEN.append(here() == HOME))
    raise LookupError

@pytest.fixture
def narrow():
    inside = mine()
    yield
    assert here() == inside

def teardown_module():
    assert WHEN == [True, True], WHEN
    assert here() == HOME

def test_at_home(wide):  # which sets it up
    assert here() == HOME

@pytest.mark.netns
def test_inside(wide, narrow):
    mine()

@pytest.mark.netns
@pytest.mark.xfail(raises=LookupError, strict=True)
def test_broken(wide, broken):
    pass
""",
    )
    project.run("-p", "no:randomly", user=user).assert_outcomes(passed=2, xfailed=1)


def test_a_package_is_set_up_and_torn_down_at_home(project: Project, user: User) -> None:
    (project.folder / "pkg").mkdir(mode=0o755)
    project.write(
        "pkg/__init__.py",
        """
        import os

        HOME = []

        def here():
            return os.readlink("/proc/thread-self/ns/net")

        def setup_module():
            HOME.append(here())

        def teardown_module():
            assert HOME == [here()]
        """,
    )
    project.write(
        "pkg/test_inside.py",
        """
        from pkg import HOME, here

        def test_inside():
            assert here() not in HOME and len(HOME) == 1
        """,
    )
    project.run("--netns-isolate", user=user).assert_outcomes(passed=1)


def test_who_does_not_leave_another_namespace_is_the_one_that_fails(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
@pytest.mark.netns
def test_enters(netns):
    netns.__enter__()

def test_at_home():
    assert here() == HOME

@pytest.mark.netns
def test_inside():
    mine()
""",
    )
    result = project.run("-p", "no:randomly", user=user)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_enters*", "*the test entered 'netns' and did not leave*"])
    result.stdout.no_fnmatch_line("*still alive*")


def test_after_an_interrupt_the_session_ends_at_home(project: Project, user: User) -> None:
    project.write(
        "conftest.py",
        """
        import os

        def here():
            return os.readlink("/proc/thread-self/ns/net")

        def pytest_collection_modifyitems(config):
            config.seen = []

        def pytest_runtest_logstart(nodeid):
            global HOME
            HOME = here()

        def pytest_unconfigure(config):
            print("at home:", here() == HOME)
        """,
    )
    project.write("test_inside.py", "def test_inside():\n    raise KeyboardInterrupt\n")
    result = project.run("--netns-isolate", user=user)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "at home: True" in result.stdout.str()
