"""A storm of real signals, at any bytecode: what is left after it is whole, and nobody waits.

`test_interruption` presses Ctrl-C at every effect; here it comes between, and inside of, everything
else: the frames of the verbs, the driver, the release itself, SQLite's and Python's own code.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.tables import connected, rows
from support.templates import cache_in_memory, made_cache  # noqa: F401

from registry import ArtifactId, Registry

STORM = """\
import os
import random
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from registry import ArtifactId, Claim, Registry, RegistryError

random.seed(sys.argv[2])
registry = Registry(sys.argv[1])
strikes = 0
struck = 0


def arm():
    global strikes
    strikes = random.choice((1, 1, 1, 2, 3))
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0006))


def strike(*_):
    global strikes
    strikes -= 1
    if strikes:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0003))
    raise KeyboardInterrupt


def hold(id):
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        with claim:
            claim.publish(b"artifact")


def drop(id):
    registry.claim(id)


def prepare(id):
    registry.get_or_prepare(id, lambda: b"artifact", timeout=timedelta(0))


def fail(id):
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.fail("it went wrong")


def act():
    id = ArtifactId.of(b"code %d" % random.randrange(20))
    verbs = (prepare, prepare, hold, hold, drop, fail, registry.need, registry.remove)
    with suppress(RegistryError):
        random.choice(verbs)(id)


def weather():
    global struck
    while struck < 200:
        try:
            try:
                arm()
                act()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            struck += 1


signal.signal(signal.SIGALRM, strike)
while struck < 200:  # a strike just before the timer is stopped may get out
    with suppress(KeyboardInterrupt):
        weather()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
registry.need(ArtifactId.of(b"code 0"))
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
paths = [os.readlink(link) for link in links if os.path.lexists(link)]
left = [path for path in paths if "/artifacts/" in path or path.count("/hosts/") > 1]
assert not left, left
assert sum(path.endswith("registry.db") for path in paths) < 8, paths
registry.close()
"""


@pytest.mark.parametrize("seed", range(3))
def test_nothing_waits_and_nothing_is_lost_after_a_storm(cache: Path, seed: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", STORM, cache, str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [r["state"] for r in rows(cache) if r["state"] == "preparing"] == []
    with connected(cache) as connection:
        assert connection.execute("SELECT count(*) FROM host").fetchone()[0] == 0
    assert list((cache / "hosts").iterdir()) == []
    with Registry(cache) as registry:
        found = {problem.kind for problem in registry.check(checksums=True).problems}
        assert found <= {"orphan_file"}
        registry.check(repair=True)
        assert registry.check(checksums=True).ok
        for artifact in registry.artifacts():
            registry.retry(artifact.id)
        for number in range(20):
            made = registry.get_or_prepare(ArtifactId.of(b"code %d" % number), lambda: b"artifact")
            assert made.size == 8
