"""What a worker does with the processes that its jobs leave behind, tried without a worker."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import os, signal, subprocess, sys
from registry.host.worker import process
"""
# A shell that is gone, and the process that it left to whoever adopts it; and one that worked.
ORPHANS = f"""{PRELUDE}
process.adopt_orphans()
process.forgo_privileges()
left = int(subprocess.check_output(["sh", "-c", "sleep 1000 >&- & echo $!"]))
worked = subprocess.Popen([sys.executable, "-S", "-c", "sum(range(10**7))"])
os.waitid(os.P_PID, worked.pid, os.WEXITED | os.WNOWAIT)
print(process.reap_offspring() > 0, os.path.exists(f"/proc/{{left}}"))
worked.returncode = 0  # it was reaped
"""
# Processes of which each forks an heir, in a session of its own, and ends at once.
CHAINS = f"""{PRELUDE}
process.adopt_orphans()
heard, said = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        os.write(said, b".")
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
os.close(said)
os.read(heard, 1)
process.reap_offspring()
print("none is left:", os.read(heard, 100).strip(b".") == b"")
"""
CPU_TIME = f"""{PRELUDE}
before = process.cpu_seconds(os.getpid())
while process.cpu_seconds(os.getpid()) < before + 0.01:
    pass
print("it counts")
"""
NO_PARENT = f"""{PRELUDE}
process.die_with_parent(os.getpid(), signal.SIGKILL)
print("never said")
"""
CHILD = f"""{PRELUDE}
process.die_with_parent(os.getppid(), signal.SIGKILL)
print("ready", flush=True)
signal.pause()
"""
PARENT = f"""{PRELUDE}
subprocess.Popen([sys.executable, "-c", {CHILD!r}])
sys.stdin.read()
os._exit(0)
"""


def said_by(script: str) -> tuple[int, str]:
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.strip()


def test_orphans_are_adopted_and_reaped_and_their_cpu_time_is_told() -> None:
    assert said_by(ORPHANS) == (0, "True False")


def test_chains_of_processes_end_for_a_worker_without_namespaces_or_a_group_too() -> None:
    assert said_by(CHAINS) == (0, "none is left: True")


def test_the_cpu_time_of_a_process_can_be_asked_for_while_it_runs() -> None:
    assert said_by(CPU_TIME) == (0, "it counts")


def test_who_has_lost_its_parent_already_is_gone_at_once() -> None:
    assert said_by(NO_PARENT) == (1, "")


def test_a_child_ends_with_its_parent() -> None:
    line = [sys.executable, "-c", PARENT]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.communicate(timeout=60)  # to the end of what both of them could still say
    assert parent.returncode == 0
