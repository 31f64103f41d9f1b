from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap

import pytest
from own_run import with_own_run

from pytest_netns import Namespace, TopologyError

HEAD = r'''
import json, os, signal, subprocess, sys
from pytest_netns import Host, Lab, Namespace, PrivilegeError, TopologyError

def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout

def command(*words):
    done = subprocess.run([sys.executable, "-m", "pytest_netns", *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

def names():
    return sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []

def records():
    return sorted(os.listdir("/run/pytest-netns")) if os.path.isdir("/run/pytest-netns") else []

OWNER = """import sys
from pytest_netns import Namespace
ns = Namespace()
ns.publish(sys.argv[1])
print(1, flush=True)
sys.stdin.read()
ns.close()
"""

def owner(name):
    words = [sys.executable, "-c", OWNER, name]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "1\n"
    return process

def kill(process):
    process.kill()
    process.communicate()
'''


def inside(code: str) -> dict[str, object]:
    """What a program reports by ``print(json.dumps(...))`` that sees a /run of its own."""
    found = json.loads(with_own_run(HEAD + textwrap.dedent(code)))
    assert isinstance(found, dict)
    return found


@pytest.fixture(autouse=True)
def _the_machine_stays_as_it_is(netns: Namespace) -> object:
    def picture() -> object:
        return [sorted(os.listdir(path)) for path in ("/run", "/run/netns", "/run/pytest-netns") if os.path.isdir(path)]

    before = picture()
    yield
    assert picture() == before


@pytest.mark.netns_requires("program:ip")
def test_a_published_namespace_is_seen_and_entered_by_ip_netns_until_it_is_closed() -> None:
    found = inside("""
        found = {}
        with Lab() as lab:
            red = lab.host("red")
            lab.connect(red, lab.host("blue"), "192.168.15.0/24")
            found["path"] = red.publish("lesson-red")
            found["names"] = names()
            found["listed"] = ip("netns", "list").split()[:1]
            found["same"] = os.stat(found["path"]).st_ino == red.inode
            found["entered"] = "192.168.15.1/24" in ip("netns", "exec", "lesson-red", "ip", "address")
            record = json.load(open("/run/pytest-netns/lesson-red.json"))
            found["owner"] = [record["name"], record["pid"] == os.getpid(), record["inode"] == red.inode]
        found["after"] = [names(), records(), os.path.ismount(found["path"])]
        print(json.dumps(found))
    """)
    assert found == {
        "path": "/run/netns/lesson-red",
        "names": ["lesson-red"],
        "listed": ["lesson-red"],
        "same": True,
        "entered": True,
        "owner": ["lesson-red", True, True],
        "after": [[], [], False],
    }


def test_a_published_namespace_can_be_attached_to_by_name() -> None:
    assert inside("""
        with Namespace("mine") as mine:
            pass
        mine.publish("shared")
        other = Namespace.attach("shared")
        same = other.inode == mine.inode
        mine.close()
        after = other.run(["true"]).returncode
        other.close()
        print(json.dumps({"same": same, "after": after, "names": names()}))
    """) == {"same": True, "after": 0, "names": []}


@pytest.mark.netns_requires("program:ip")
def test_several_are_published_and_each_is_withdrawn_alone() -> None:
    assert inside("""
        ip("netns", "add", "theirs")
        first, second = Namespace("first"), Namespace("second")
        first.publish("one")
        second.publish("two")
        both = [names(), records()]
        first.close()
        one = [names(), records()]
        second.close()
        print(json.dumps({"both": both, "one": one, "none": [names(), records()]}))
    """) == {
        "both": [["one", "theirs", "two"], ["one.json", "two.json"]],
        "one": [["theirs", "two"], ["two.json"]],
        "none": [["theirs"], []],
    }


@pytest.mark.netns_requires("program:ip")
def test_what_somebody_deleted_meanwhile_is_no_error_at_closing() -> None:
    assert inside("""
        ns = Namespace("ns")
        ns.publish("mine")
        ip("netns", "delete", "mine")
        ns.close()
        print(json.dumps({"names": names(), "records": records()}))
    """) == {"names": [], "records": []}


@pytest.mark.netns_requires("program:ip")
def test_a_name_that_is_taken_is_an_error_and_stays_as_it_is() -> None:
    found = inside("""
        ip("netns", "add", "theirs")
        before = os.stat("/run/netns/theirs").st_ino
        first, second = Namespace("first"), Namespace("second")
        first.publish("mine")
        errors = []
        for ns, name in ((second, "theirs"), (second, "mine"), (first, "again")):
            try:
                ns.publish(name)
            except TopologyError as error:
                errors.append(str(error))
        kept = os.stat("/run/netns/theirs").st_ino == before, os.stat("/run/netns/mine").st_ino == first.inode
        listed = [names(), records()]
        second.publish("other")
        first.close()
        second.close()
        print(json.dumps({"errors": errors, "kept": kept, "listed": listed, "after": [names(), records()]}))
    """)
    assert found == {
        "errors": [
            "cannot publish as 'theirs': /run/netns/theirs exists; see pytest-netns reap",
            "cannot publish as 'mine': /run/netns/mine exists; see pytest-netns reap",
            "namespace 'first' is published already, as 'mine'",
        ],
        "kept": [True, True],
        "listed": [["mine", "theirs"], ["mine.json"]],
        "after": [["theirs"], []],
    }


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", ".hidden", "two words", "x" * 65, "ü"])
def test_what_cannot_be_a_name_is_an_error_before_anything_happens(netns: Namespace, name: str) -> None:
    with pytest.raises(TopologyError, match=re.escape(f"cannot publish as {name!r}: a name has 1 to 64")):
        netns.publish(name)


def test_the_path_of_a_namespace_works_with_nsenter_from_outside(netns: Namespace) -> None:
    assert netns.path == f"/proc/{os.getpid()}/fd/{netns.fd}"
    done = subprocess.run(
        ["nsenter", f"--net={netns.path}", "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"net:[{netns.inode}]\n"


# ------------------------------------------------------------ reap


@pytest.mark.netns_requires("program:ip")
def test_reap_removes_what_belongs_to_the_dead_and_nothing_else() -> None:
    found = inside("""
        ip("netns", "add", "theirs")
        dead, living = owner("of-the-dead"), owner("of-the-living")
        kill(dead)
        before = [names(), records()]
        status, said = command("reap")
        after = [names(), records()]
        alive = ip("netns", "exec", "of-the-living", "echo", "alive") + ip("netns", "exec", "theirs", "echo", "alive")
        again = command("reap")
        living.communicate("")
        print(json.dumps({"before": before, "status": status, "said": said.replace(str(dead.pid), "PID"),
                          "after": after, "alive": alive, "again": again}))
    """)
    assert found == {
        "before": [["of-the-dead", "of-the-living", "theirs"], ["of-the-dead.json", "of-the-living.json"]],
        "status": 0,
        "said": "of-the-dead: removed, its owner PID is dead\n",
        "after": [["of-the-living", "theirs"], ["of-the-living.json"]],
        "alive": "alive\nalive\n",
        "again": [0, "nothing to remove\n"],
    }


@pytest.mark.netns_requires("program:ip")
def test_a_name_of_the_dead_can_be_used_after_reap() -> None:
    assert inside("""
        kill(owner("name"))
        ns = Namespace("ns")
        try:
            ns.publish("name")
        except TopologyError as error:
            refused = str(error)
        command("reap")
        ns.publish("name")
        found = {"refused": refused, "entered": ip("netns", "exec", "name", "echo", "in")}
        ns.close()
        print(json.dumps(found))
    """) == {
        "refused": "cannot publish as 'name': /run/netns/name exists; see pytest-netns reap",
        "entered": "in\n",
    }


def test_a_process_that_has_the_number_of_the_dead_is_not_taken_for_it() -> None:
    found = inside("""
        kill(owner("name"))
        record = json.load(open("/run/pytest-netns/name.json"))
        record["pid"] = os.getpid()
        json.dump(record, open("/run/pytest-netns/name.json", "w"))
        status, said = command("reap")
        print(json.dumps({"names": names(), "records": records()}))
    """)
    assert found == {"names": [], "records": []}


@pytest.mark.netns_requires("program:ip")
def test_a_name_that_is_somebody_elses_now_is_kept() -> None:
    assert inside("""
        kill(owner("name"))
        ip("netns", "delete", "name")
        ip("netns", "add", "name")
        status, said = command("reap")
        print(json.dumps({"said": said, "names": names(), "records": records(),
                          "works": ip("netns", "exec", "name", "echo", "works")}))
    """) == {
        "said": "name: is in use by others now, left alone\n",
        "names": ["name"],
        "records": [],
        "works": "works\n",
    }


@pytest.mark.netns_requires("program:ip")
def test_a_name_is_kept_though_its_namespace_has_the_inode_of_the_dead_one() -> None:
    # The kernel gives inodes again: in an emulated one, slow enough, the namespace made anew often has it.
    assert inside("""
        kill(owner("name"))
        ip("netns", "delete", "name")
        ip("netns", "add", "name")
        record = json.load(open("/run/pytest-netns/name.json"))
        record["inode"] = os.stat("/run/netns/name").st_ino
        json.dump(record, open("/run/pytest-netns/name.json", "w"))
        status, said = command("reap")
        print(json.dumps({"said": said, "names": names(), "records": records(),
                          "works": ip("netns", "exec", "name", "echo", "works")}))
    """) == {
        "said": "name: is in use by others now, left alone\n",
        "names": ["name"],
        "records": [],
        "works": "works\n",
    }


@pytest.mark.netns_requires("program:ip")
def test_a_name_that_was_deleted_meanwhile_leaves_no_record() -> None:
    found = inside("""
        kill(owner("name"))
        ip("netns", "delete", "name")
        print(json.dumps({"status": command("reap")[0], "names": names(), "records": records()}))
    """)
    assert found == {"status": 0, "names": [], "records": []}


def test_whenever_the_owner_dies_reap_removes_what_is_left() -> None:
    # One child for each line of the module that publish() runs; it dies before that line.
    found = inside("""
        from pytest_netns.kernel.netns import publish as module

        def die_at(line):
            left = line
            def trace(frame, event, argument):
                nonlocal left
                if frame.f_code.co_filename != module.__file__:
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace
            return trace

        ns = Namespace("ns")
        line, died, left, seen = 0, True, [], set()
        while died:
            line += 1
            if (child := os.fork()) == 0:
                sys.settrace(die_at(line))
                module.publish(ns.fd, "name")
                sys.settrace(None)
                os._exit(0)
            died = os.waitpid(child, 0)[1] == signal.SIGKILL
            seen.add((tuple(names()), tuple(records())))
            said = module.reap()
            if names() or records() or module.reap():
                left.append([line, names(), records(), said])
        ns.close()
        print(json.dumps({"left": left, "many": line > 30, "seen": sorted(seen)}))
    """)
    assert found["left"] == []
    assert found["many"]
    # The record is never missing, and comes first.
    assert found["seen"] == [[[], []], [[], ["name.json"]], [["name"], ["name.json"]]]


def test_everybody_can_read_them_whatever_the_umask_is() -> None:
    assert inside("""
        os.umask(0o077)
        ns = Namespace("ns")
        ns.publish("name")
        modes = [oct(os.stat(path).st_mode & 0o777)
                 for path in ("/run/netns", "/run/pytest-netns", "/run/pytest-netns/name.json")]
        ns.close()
        print(json.dumps({"modes": modes}))
    """) == {"modes": ["0o755", "0o755", "0o644"]}


@pytest.mark.parametrize("reaper", ["outside", "inside"])
def test_an_owner_in_another_pid_namespace_is_not_taken_for_dead(reaper: str) -> None:
    found = inside(f"""
        elsewhere = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        words = [sys.executable, "-c", OWNER.replace("sys.stdin.read()", "import signal; signal.pause()"), "name"]
        reap = [sys.executable, "-m", "pytest_netns", "reap"]
        words, reap = (elsewhere + words, reap) if {reaper!r} == "outside" else (words, elsewhere + reap)
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "1\\n"
        living = subprocess.run(reap, capture_output=True, text=True, check=True).stdout
        there = names()
        children = open(f"/proc/{{process.pid}}/task/{{process.pid}}/children").read().split()
        for pid in [*map(int, children), process.pid]:  # unshare(1) may stand between
            os.kill(pid, signal.SIGKILL)
        process.wait()
        for _ in range(200):
            said = subprocess.run(reap, capture_output=True, text=True, check=True).stdout
            if said != living:
                break
        print(json.dumps({{"living": living, "there": there, "dead": "removed, its owner" in said, "names": names()}}))
    """)
    assert found == {"living": "nothing to remove\n", "there": ["name"], "dead": True, "names": []}


def test_a_forked_child_does_not_keep_the_name_of_a_dead_owner() -> None:
    assert inside("""
        owner = OWNER.replace("sys.stdin.read()", "import os, signal; os.fork(); signal.pause()")
        process = subprocess.Popen([sys.executable, "-c", owner, "name"], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "1\\n"
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        while not (child := open(children).read().split()):
            pass
        process.kill()
        process.wait()
        found = {"said": command("reap")[1].replace(str(process.pid), "PID"), "names": names()}
        os.kill(int(child[0]), signal.SIGKILL)
        print(json.dumps(found))
    """) == {"said": "name: removed, its owner PID is dead\n", "names": []}


GARBAGE = {
    "empty": "",
    "text": "no json",
    "list": "[]",
    "number": "7",
    "lacking": '{"name": "theirs"}',
    "outside": '{"name": "../precious", "pid": 0, "started": "0", "inode": 1, "cookie": 1}',
    "no-text": '{"name": 7, "pid": 0, "started": "0", "inode": 1, "cookie": 1}',
    "no-number": '{"name": "theirs", "pid": "x/../1", "started": "0", "inode": 1, "cookie": 1}',
    "another": '{"name": "theirs", "pid": 0, "started": "0", "inode": null, "cookie": 1}',
    "no-cookie": '{"name": "theirs", "pid": 0, "started": "0", "inode": 1, "cookie": "1"}',
    "binary": "\udcff\udcfe",
}


@pytest.mark.netns_requires("program:ip")
def test_records_that_are_garbage_are_reported_and_left_alone() -> None:
    found = inside(f"""
        open("/run/precious", "w").close()
        ip("netns", "add", "theirs")
        os.mkdir("/run/pytest-netns")
        os.mkdir("/run/pytest-netns/folder.json")
        for name, text in {GARBAGE!r}.items():
            with open(f"/run/pytest-netns/{{name}}.json", "w", errors="surrogateescape") as file:
                file.write(text)
        kill(owner("of-the-dead"))
        status, said = command("reap")
        print(json.dumps({{"status": status, "said": sorted(said.splitlines()), "names": names(), "records": records(),
                           "kept": os.path.exists("/run/precious")}}))
    """)
    assert found["kept"]
    files = sorted([*GARBAGE, "folder"])
    said = found["said"]
    assert isinstance(said, list)
    assert found["status"] == 0
    assert [line for line in said if line.endswith("not a record of ours, left alone")] == [
        f"/run/pytest-netns/{name}.json: not a record of ours, left alone" for name in files
    ]
    assert len(said) == len(files) + 1
    assert found["names"] == ["theirs"]
    assert found["records"] == [f"{name}.json" for name in files]


def test_where_nothing_was_published_there_is_nothing_to_remove() -> None:
    assert inside('print(json.dumps({"said": command("reap")}))') == {"said": [0, "nothing to remove\n"]}


def test_the_command_explains_itself() -> None:
    found = inside('print(json.dumps({"no": command(), "bad": command("sow"), "help": command("--help")}))')
    statuses = {word: answer[0] for word, answer in found.items()}  # type: ignore[index]
    assert statuses == {"no": 2, "bad": 2, "help": 0}
    assert "remove published namespaces whose owners are dead" in found["help"][1]  # type: ignore[index]
