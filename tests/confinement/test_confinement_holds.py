"""Each sentence about confined jobs, tried: it holds by the means that are said to, and only so.

The attempts are made in a real job of a real worker, by a backend that wants them to succeed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from host.backends.intruder import DONE
from host.stories import AMPLE, await_the_end_of, story

from registry import AsyncRegistry, InvalidCandidate
from registry.confinement import cgroup, isolation, namespaces
from registry.confinement.isolation import Means, promises
from registry.host import Confinement, Host

INTRUDER = "host.backends.intruder"
SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"
KEY = 0x52454701
HERE = isolation.available()
MODES = {
    "all": HERE,
    "Landlock": Means(landlock=HERE.landlock),
    "seccomp": Means(seccomp=HERE.seccomp),
    "namespaces": Means(namespaces=HERE.namespaces),
    "Landlock and seccomp": Means(HERE.landlock, HERE.seccomp),
    "Landlock and namespaces": Means(HERE.landlock, namespaces=HERE.namespaces),
}
# The others are tried by stories of their own.
TRIED = [p.name for p in promises(HERE) if p.name not in {"children", "time"}]
needs_cgroup = pytest.mark.skipif(not HERE.cgroup, reason="no control group can be made here")
LEFT_IN_A_GROUP = """
import os, signal
from registry.confinement import cgroup
group = cgroup.make()
if (child := os.fork()) == 0:
    group.join()
    print(os.getpid(), flush=True)
signal.pause()
"""
OF_A_GROUP = """
import os
from registry.confinement import seccomp
from registry.host.worker.process import forgo_privileges
os.setpgid(0, 0)
forgo_privileges()
seccomp.install(seccomp.make_filter())
os.setpriority(os.PRIO_PROCESS, 0, 5)
print("itself", flush=True)
os.setpriority(os.PRIO_PGRP, 0, 6)
"""
_libc = ctypes.CDLL(None, use_errno=True)

Answers = dict[str, str]


def shared_memory() -> int:
    """The number of the segment that a job made, where it can be seen outside; else -1."""
    return _libc.shmget(KEY, 0, 0)


def remove_shared_memory() -> None:
    if (number := shared_memory()) >= 0:
        _libc.shmctl(number, 0, None)


@pytest.fixture
def given(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a job may be after: a file, a process, servers, the cache."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("private")
    (folder / "doomed").touch()
    line = [sys.executable, "-I", "-S", "-c", SLEEPER]
    with ExitStack() as stack:
        stack.callback(Path("/dev/shm", tmp_path.name).unlink, missing_ok=True)
        stack.callback(remove_shared_memory)
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.setsockopt(socket.IPPROTO_TCP, 23, 5)  # TCP_FASTOPEN
        stream = stack.enter_context(socket.socket(socket.AF_UNIX))
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(folder)  # a socket's name must be short
            stream.bind("stream")
            stream.listen()
            datagrams.bind("datagrams")
        victim = stack.enter_context(
            subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        yield {
            "do": "try",
            "outside": str(folder / "file"),
            "victim": victim.pid,
            "port": server.getsockname()[1],
            "socket": str(folder / "stream"),
            "datagrams": str(folder / "datagrams"),
            "cache": str(tmp_path / "cache"),
            "name": tmp_path.name,
            "key": KEY,
        }


def tried(given: dict[str, Any], confinement: Confinement | None) -> Answers:
    async def trial() -> Answers:
        async with (
            AsyncRegistry(given["cache"]) as registry,
            Host(registry, INTRUDER, confinement=confinement, execute_workers=1) as host,
        ):
            return await host.execute(b"x", {}, given, timeout=AMPLE)

    answers = asyncio.run(trial())
    if shared_memory() < 0:
        answers["memory: shared memory"] = "gone"
    return answers


@pytest.mark.parametrize("mode", MODES)
def test_what_is_said_to_hold_holds_and_what_is_not_does_not(given, mode):
    means = MODES[mode]
    if not means:
        pytest.skip(f"this machine has no {mode}")
    with patch.object(isolation, "available", lambda: means):
        answers = tried(given, Confinement())
    for promise in promises(means):
        if promise.name in TRIED:
            done = [
                attempt
                for attempt, answer in answers.items()
                if attempt.startswith(f"{promise.name}: ") and answer == DONE
            ]
            assert bool(done) != promise.holds, (promise.sentence, done)


def test_the_attempts_are_real_for_without_a_confinement_they_succeed(given):
    answers = tried(given, None)
    for name in TRIED:
        done = [answer for attempt, answer in answers.items() if attempt.startswith(f"{name}: ")]
        assert DONE in done or (name == "privileges" and not capable()), answers


@pytest.mark.skipif(not HERE.seccomp, reason="this machine has no seccomp")
def test_a_job_cannot_join_the_group_of_others_to_change_its_priority():
    done = subprocess.run([sys.executable, "-c", OF_A_GROUP], capture_output=True, text=True)
    assert done.stdout.split() == ["itself"], "it may change its own"
    assert "PermissionError" in done.stderr, done.stderr


def capable() -> bool:
    """Whether we have capabilities ourselves."""
    said = Path("/proc/self/status").read_text()
    return int(said.partition("CapBnd:")[2].split()[0], 16) != 0


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="takes root, unshare")
def test_who_is_not_root_has_namespaces_too_where_the_system_lets_anybody_make_them():
    python = shutil.which("python3", path=os.defpath)
    if python is None:
        pytest.skip("there is no python3 that anybody may run")
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
    everything = ["--user", "--map-root-user", "--net", "--ipc", "--pid", "--fork", "--mount-proc"]
    allowed = subprocess.run(["unshare", *everything, "true"], **nobody, capture_output=True)
    script = Path(namespaces.__file__).read_bytes()
    tried = subprocess.run([python, "-I", "-S", "-"], input=script, **nobody, capture_output=True)
    assert (tried.returncode == 0) == (allowed.returncode == 0), tried.stderr
    assert (tried.stderr == b"") == (tried.returncode == 0)


@pytest.mark.parametrize("way", ["namespaces", "cgroup"])
@story
async def test_processes_that_only_fork_and_exit_end_with_their_job(cache, monkeypatch, way):
    if not getattr(HERE, way):
        pytest.skip(f"this machine has no {way}")
    confinement = Confinement() if way == "namespaces" else None
    if way == "namespaces":
        monkeypatch.setattr(isolation, "available", lambda: replace(HERE, cgroup=False))
    mark = os.urandom(8).hex()
    leave = {"do": "leave", "chains": 20, "seconds": 60, "mark": mark}
    async with (
        AsyncRegistry(cache) as registry,
        Host(registry, INTRUDER, confinement=confinement, execute_workers=1) as host,
    ):
        assert await host.execute(b"x", {}, leave, timeout=AMPLE) == 20
        for _ in range(20):  # looks; one that forks on would be seen in one of them
            assert _marked(mark) == []


@needs_cgroup
@pytest.mark.parametrize("confinement", [None, Confinement()], ids=["any job", "a confined one"])
@story
async def test_the_cpu_time_of_children_that_nobody_waits_for_is_counted(cache, confinement):
    async with (
        AsyncRegistry(cache) as registry,
        Host(registry, INTRUDER, confinement=confinement, execute_workers=1) as host,
    ):
        with pytest.raises(InvalidCandidate) as caught:
            await host.execute(b"x", {}, {"do": "hide"}, timeout=timedelta(seconds=1))
        assert caught.value.kind == "timed_out"


@story
async def test_shared_memory_is_not_bounded_as_the_documents_say(cache):
    limit = 128 * 1024**2
    async with (
        AsyncRegistry(cache) as registry,
        Host(registry, INTRUDER, confinement=Confinement(), memory_limit=limit) as host,
    ):
        more = {"do": "share", "bytes": limit * 3 // 2}
        assert await host.execute(b"x", {}, more, timeout=AMPLE) > limit


@needs_cgroup
def test_what_a_killed_worker_leaves_is_swept(tmp_path):
    line = [sys.executable, "-c", LEFT_IN_A_GROUP]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        left = int(killed.stdout.readline())
        held = list(cgroup.left())
        cgroup.sweep()
        assert list(cgroup.left()) == held, "a group whose worker lives is left alone"
        killed.kill()
    cgroup.sweep()
    await_the_end_of([left])
    cgroup.sweep()
    assert not set(held) & set(cgroup.left())


@needs_cgroup
def test_a_group_is_made_while_other_processes_sweep():
    sweeping = (
        "from registry.confinement import cgroup\nprint(flush=True)\nwhile True: cgroup.sweep()"
    )
    line = [sys.executable, "-c", sweeping]
    with (
        subprocess.Popen(line, stdout=subprocess.PIPE) as one,
        subprocess.Popen(line, stdout=subprocess.PIPE) as two,
    ):
        try:
            for sweeper in (one, two):
                assert sweeper.stdout is not None
                sweeper.stdout.readline()
            for _ in range(1000):
                group = cgroup.make()
                assert group is not None
                group.remove()
        finally:
            one.kill()
            two.kill()


def _marked(mark: str) -> list[str]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if mark.encode() in Path("/proc", name, "environ").read_bytes():
                found.append(name)
        except OSError:
            continue
    return found


def test_each_mean_that_is_missing_is_named_with_what_is_not_held():
    assert isolation.missing(Means(7, b"filter", namespaces=True, cgroup=True)) == ""
    for means in MODES.values():
        said = isolation.missing(means)
        for promise in promises(means):
            assert (promise.sentence in said) != promise.holds
