"""`hosts` and `doctor`: who uses the cache, and whether all is well with it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from support.artifacts import prepared
from support.command import Command, Run

from registry import ArtifactId, Registry


def test_hosts_are_listed_with_what_each_prepares(run: Run, registry: Registry) -> None:
    (own,) = registry.hosts()
    one, two = ArtifactId.of(b"one"), ArtifactId.of(b"two")
    with registry.claim(one, label="one"), registry.claim(two, label="two"):
        title, line, itself = run("hosts").out.splitlines()
    assert title.split() == ["HOST", "PROCESS", "SINCE", "COMMAND", "PREPARES"]
    assert line.split()[:2] == [own.id[:12], str(os.getpid())]
    assert "one (" in line
    assert "two (" in line
    assert itself.endswith(" -")


def test_hosts_are_told_to_programs_in_full(run: Run, registry: Registry) -> None:
    (own,) = registry.hosts()
    one = ArtifactId.of(b"one")
    with registry.claim(one, label="one"):
        host, itself = run("hosts", "--json").document
    (claim,) = host.pop("prepares")
    assert (claim["code_hash"], claim["label"]) == (one.code_hash, "one")
    assert claim["holder"]["host_id"] == host["id"] == own.id
    assert (host["pid"], host["alive"]) == (os.getpid(), True)
    assert host["opened_at"] == own.opened_at.replace(tzinfo=None).isoformat() + "Z"
    assert host["command"] == own.command
    assert itself["prepares"] == []


def test_a_host_with_another_host_name_is_shown_with_it(run: Run, registry: Registry) -> None:
    database = registry.cache_dir / "registry.db"
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("UPDATE host SET hostname = 'box-7', command = 'find / -name x'")
    _, line, itself = run("hosts").out.splitlines()
    assert "find / -name x on box-7" in line
    assert " on " not in itself


def test_a_host_of_another_process_is_seen(command: Command, registry: Registry) -> None:
    mine, theirs = command("hosts", "--json").document
    assert mine["pid"] == os.getpid()
    assert theirs["pid"] != os.getpid()
    assert theirs["command"].endswith("-m registry hosts --json")


def test_a_sound_cache_passes_the_doctor(run: Run, registry: Registry) -> None:
    prepared(registry, "one")
    answer = run("doctor")
    assert (answer.code, answer.err) == (0, "")
    assert "ok       journal            WAL\n" in answer.out
    findings = run("doctor", "--json").document
    sound = {"verdict": "ok", "advice": ""}
    assert {"name": "journal", "value": "WAL", **sound, "figures": {}} in findings
    assert {
        "name": "limit",
        "value": "8 B held, 8 B of it needed lately, limit 10.0 GiB",
        **sound,
        "figures": {"held": 8, "needed_lately": 8, "limit": 10 * 1024**3},
    } in findings


def test_a_problem_is_told_with_what_to_do_and_fails(run: Run, registry: Registry) -> None:
    prepared(registry, "one", data=bytes(1000))
    registry.configure(cache_limit=999)
    answer = run("doctor")
    assert answer.code == 1
    lines = answer.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("problem")]
    assert "limit 999 B" in lines[at]
    assert lines[at + 1].strip().startswith("-> the limit is below the working set")
    assert run("doctor", "--json").code == 1


def test_a_note_does_not_fail(run: Run, registry: Registry) -> None:
    registry.configure(cache_limit=2**62)
    answer = run("doctor")
    assert answer.code == 0
    assert "note     disk" in answer.out
