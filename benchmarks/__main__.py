"""``python -m benchmarks [--rounds N] [--only NAME] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import floor, impair, iproute2, isolate, ours, probes, rivals, routed, scaling, stage, table
from benchmarks.lacking import lacking
from benchmarks.stopwatch import Contender, Experiment, Row, laps, measure
from benchmarks.suite import TESTS, Sessions
from pytest_netns import PrivilegeError
from pytest_netns.kernel.sysctl import BASELINE, path_of

SYSCTLS = {path_of(name): value for name, value in BASELINE.items()}
LEAST_ROUNDS = 30
SESSIONS = 5
#: Names for ``--only`` of what is no row of the table.
OTHERS = ("capture", "impair", "isolate", "scaling", "start-up")
#: Of what may be one; which of the last two there are depends on the kernel.
EXPERIMENTS = (
    "netns",
    "pair",
    "pair4",
    "pair4-bare",
    "bridge10",
    "bridge100",
    "routed",
    "ping",
    "run",
    "first-ping",
    "probes",
    "ping-all",
    "ping-all-300",
    "suite",
    "empty",
    "impair-relay",
    "impair-netem",
)


def _timed(steps: Callable[..., Iterator[str]], *arguments: object) -> Contender:
    return lambda: laps(steps(*arguments))


def _three(name: str, *arguments: object) -> dict[str, Contender]:
    return {
        "floor": _timed(getattr(floor, name), SYSCTLS, *arguments),
        "ours": _timed(getattr(ours, name), *arguments),
        "ip -batch": _timed(getattr(iproute2, name), *arguments),
    }


def experiments(sessions: Sessions, workers: list[rivals.Worker]) -> list[Experiment]:
    """All that can be measured, in the order of the table."""

    def with_rivals(word: str, contenders: dict[str, Contender]) -> dict[str, Contender]:
        return contenders | {w.name: w.contender(word) for w in workers if rivals.does(w.name, word)}

    bare = _three("pair", False) | {"floor": _timed(floor.pair, {}, False)}
    return [
        Experiment("netns", {"set-up": "empty namespace"}, _three("netns")),
        Experiment(
            "pair",
            {"set-up": "pair, IPv4 + IPv6", "tear-down": "tear-down of that pair"},
            with_rivals("pair", _three("pair")),
        ),
        Experiment("pair4", {"set-up": "pair, IPv4 only"}, _three("pair", False)),
        Experiment("pair4-bare", {"set-up": "pair, IPv4 only; floor without sysctls"}, bare),
        Experiment(
            "bridge10",
            {"set-up": "10 hosts on a bridge"},
            with_rivals("bridge", _three("bridge", 10)),
            weight=3,
        ),
        Experiment("bridge100", {"set-up": "100 hosts on a bridge"}, _three("bridge", 100), weight=10),
        Experiment(
            "routed",
            {"set-up": "router with NAT, two LANs of two hosts"},
            {"floor": _timed(routed.raw, SYSCTLS), "ours": _timed(routed.ours)},
            weight=10,
        ),
        Experiment("ping", {"first": "first ping after set-up", "next": "next ping"}, _three("pings")),
        Experiment("run", {"first": 'first run(["true"])', "next": 'next run(["true"])'}, _three("run")),
        Experiment("first-ping", {"first": "first ping of a session, imports apart"}, {"ours": probes.first_ping}),
        Experiment(
            "probes",
            {
                "ping": "ping, the second one",
                "ping -c1": "run(ping -c1) beside it",
                "tcp": "TCP probe",
                "arp": "ARP probe",
                "open": "opening a capture",
                "close": "closing it",
                "open lab": "opening a capture of that lab",
            },
            {"ours": _timed(probes.questions)},
        ),
        *(
            Experiment(
                f"impair-{engine}",
                {
                    "first": f"impairing a link by {engine}, the first of a lab",
                    "next": "the next link",
                    "change": "changing it",
                    "heal": "healing it",
                },
                {"ours": _timed(impair.settings, engine)},
            )
            for engine in impair.engines()
        ),
        Experiment(
            "ping-all",
            {"first": "ping_all of 10 hosts", "next": "ping_all again"},
            {"ours": _timed(probes.matrix, 10)},
            weight=3,
        ),
        Experiment(
            "ping-all-300",
            {"first": "ping_all of 300 hosts (89,700 pings)"},
            {"ours": _timed(probes.complete_matrix, 300)},
            weight=30,
            rounds=1,
        ),
        Experiment(
            "suite",
            {"test": f"a test of {TESTS}: pair + ping, all in"},
            {"ours": sessions.per_test("ours"), "floor": sessions.per_test("floor")},
            rounds=SESSIONS,
        ),
        Experiment(
            "empty",
            {"test": f"a test of {TESTS}: empty, without us"},
            {"floor": sessions.per_test("empty")},
            rounds=SESSIONS,
        ),
    ]


def start_up(sessions: Sessions, rounds: int) -> Iterator[str]:
    """What a session that does not use the plugin pays for it, where bytecode can be kept and where it cannot."""
    for kept in (True, False):
        where = "bytecode kept" if kept else "without bytecode (PYTHONDONTWRITEBYTECODE=1)"
        contenders = {
            "installed": sessions.start_up(bytecode=kept),
            "-p netns": sessions.start_up("-p", "netns", bytecode=kept),
            "-p no:netns": sessions.start_up("-p", "no:netns", bytecode=kept),
        }
        for row in measure(Experiment("start-up", {"wall": "", "processor": ""}, contenders, weight=0), rounds):
            kind = row.name.rpartition("/")[2]
            base = row.samples["-p no:netns"]
            more = " and ".join(
                f"{median(a - b for a, b in zip(row.samples[who], base, strict=True)) * 1000:+.1f} ms {who}"
                for who in ("installed", "-p netns")
            )
            yield (
                f"pytest start-up, unused, {where}, {kind} time: {more}, beside {median(base) * 1000:.0f} ms "
                f"-p no:netns (medians of {rounds})"
            )
    yield f"pytest start-up, installed and unused, {sessions.imported()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Prints a table; passes or fails nothing."
    )
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N", help="turns of each (default: 30)")
    parser.add_argument("--only", action="append", metavar="NAME", help="just this experiment; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time there, in seconds")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if unknown := next((name for name in options.only or () if name not in (*EXPERIMENTS, *OTHERS)), ""):
        parser.error(f"--only {unknown}: there are {', '.join([*EXPERIMENTS, *OTHERS])}")
    try:
        mode = stage.enter()
    except (PrivilegeError, OSError) as error:
        print(f"nothing can be measured: {error}", file=sys.stderr)
        return 1
    machine = f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}, {mode}"
    print(machine, flush=True)
    missing = lacking()
    found = [rivals.start(name) for name in ("munet", "mininet")]
    workers = [each for each in found if isinstance(each, rivals.Worker)]
    lines = [f"{name}: {why}" for name, why in missing.items()] + [each for each in found if isinstance(each, str)]
    print(*(f"not measured: {line}" for line in lines), "", sep="\n", flush=True)
    rows: list[Row] = []
    notes: list[str] = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        sessions = Sessions(Path(folder), SYSCTLS)
        known = {each.name: each for each in experiments(sessions, workers)}
        wanted = [name for name in options.only or [*known, *OTHERS] if name not in missing]
        output = table.Table(title for each in known.values() for title in each.rows.values())
        others: dict[str, Callable[[], Iterable[str]]] = {
            "capture": lambda: [probes.capture_rate()],
            "impair": impair.figures,
            "isolate": lambda: [isolate.cost(Path(folder), min(options.rounds, SESSIONS))],
            "scaling": lambda: scaling.gains(Path(folder), min(options.rounds, SESSIONS)),
            "start-up": lambda: start_up(sessions, options.rounds),
        }
        for name in wanted:
            try:
                if name in known:
                    experiment = known[name]
                    contenders = {who: what for who, what in experiment.contenders.items() if who not in missing}
                    for row in measure(replace(experiment, contenders=contenders), options.rounds):
                        rows.append(row)
                        output.add(row)
                elif name in others:
                    for note in others[name]():
                        notes.append(note)
                        print(note, flush=True)
            except Exception as error:  # what was measured is printed, and the rest is measured all the same
                failed += 1
                print(f"{name}: not measured: {type(error).__name__}: {error}", flush=True)
    for worker in workers:
        worker.close()
    if options.json:
        samples = {row.name: row.samples for row in rows}
        options.json.write_text(json.dumps({"machine": machine, "notes": notes, "seconds": samples}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
