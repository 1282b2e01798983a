"""Two versions on one cache, at the same time: what the rules of migration are for.

An earlier version is built as a wheel from the history of this repository, and put into an
environment of its own beside the present one. The oldest that `cache.oldest_version` admits is the
first that asks for it, which came with revision 0002: the program of 0001 knew neither hosts nor
versions, and refuses every later schema.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.tables import connected
from support.wheels import ROOT, Unknown, build, install, last_commit_of, unpack

from registry import ArtifactId, Registry
from registry.opening import migrate

SHARING = Path(__file__).with_name("sharing.py")
PATIENCE = 60.0
REVISIONS = [revision.id for revision in migrate.revisions()]
OLDEST_ADMITTED = "0002"
EARLIER = [revision for revision in REVISIONS[:-1] if revision >= OLDEST_ADMITTED]
# What the program of 0002 said of an artifact that was pruned before it looked at the file, or
# between its look and its reading of it. What is damaged in truth, the hosts and the check find.
FALSE_ALARM = re.compile(r"the file of \S+ is (missing|damaged); it will be prepared again\n")
CODE = ArtifactId.of(b"code")
PREPARE = """\
import logging, pathlib, sys
from registry import ArtifactId, Registry
log = logging.getLogger("registry")
log.setLevel(logging.INFO)
log.addHandler(logging.StreamHandler(sys.stdout))
with Registry(pathlib.Path(sys.argv[1])) as registry:
    artifact = registry.get_or_prepare(ArtifactId.of(b"code"), lambda: b"artifact")
    print(artifact.num_failures, artifact.path.read_bytes().decode())
"""
CLAIM = """\
import pathlib, sys
from registry import ArtifactId, Registry
with Registry(pathlib.Path(sys.argv[1])) as registry:
    claim = registry.claim(ArtifactId.of(b"code"))
    print("claimed", flush=True)
    sys.stdin.read()
    claim.publish(b"theirs")
"""


def tree_of(revision: str, place: Path) -> Path:
    """The source of the last program whose newest schema was a revision."""
    following = REVISIONS[REVISIONS.index(revision) + 1]
    try:
        return unpack(last_commit_of(revision, following), place)
    except Unknown as reason:
        pytest.skip(f"the program of revision {revision} cannot be had: {reason}")


FIND_MIGRATIONS = """
try:
    from registry.opening import migrate
except ImportError:  # where it was before
    from registry import migrate
"""


@pytest.fixture(scope="module", params=EARLIER)
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel of an earlier version."""
    place = tmp_path_factory.mktemp("earlier")
    wheel = build(tree_of(request.param, place / "source"), place / "wheel")
    python = install(wheel, place / "environment")
    asked = FIND_MIGRATIONS + "print(migrate.__file__, migrate.HEAD)"
    file, head = run(python, "-c", asked).split()
    assert Path(file).is_relative_to(place)
    assert head == request.param
    return python


@pytest.fixture(scope="module")
def present(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel of the present version."""
    place = tmp_path_factory.mktemp("present")
    return install(build(ROOT, place / "wheel"), place / "environment")


def run(python: Path, *arguments: str | Path) -> str:
    """Run a program of one version to its end, which must be a quiet one; what it printed."""
    done = subprocess.run(
        [python, "-I", *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs, and wait until each has said a word; they are gone after the test."""
    with ExitStack() as stack:

        def begin(python: Path, *arguments: str | Path) -> subprocess.Popen[str]:
            pipe = subprocess.PIPE
            process = stack.enter_context(
                subprocess.Popen(
                    [python, "-I", *arguments],
                    stdin=pipe,
                    stdout=pipe,
                    stderr=pipe,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield begin


def says(process: subprocess.Popen[str], word: str) -> None:
    """Wait until a program says something, and this it must be."""
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said.startswith(word):
        process.kill()
        raise AssertionError(said + process.communicate()[1])


def test_two_versions_share_a_cache_under_load(
    earlier: Path, present: Path, cache: Path, start: Start
) -> None:
    (cache.parent / "busy").mkdir()
    old = [start(earlier, SHARING, cache, str(seed)) for seed in (1, 2)]
    for host in old:
        says(host, "at work\n")
    before = migrate.revision_of(str(cache / "registry.db"))
    new = [start(present, SHARING, cache, str(seed)) for seed in (3, 4)]  # upgrades beneath them
    for host in new:
        says(host, "at work\n")
    late = start(earlier, SHARING, cache, "5")  # opens a database from its future
    says(late, "at work\n")
    assert migrate.revision_of(str(cache / "registry.db")) == migrate.HEAD != before
    for host in (*old, *new, late):
        out, err = host.communicate(timeout=PATIENCE)
        alarms = err if host in new else FALSE_ALARM.sub("", err)
        assert (host.returncode, alarms) == (0, "")
        assert int(out) >= 40
    with Registry(cache) as registry:
        assert registry.check(checksums=True).problems == []
        assert registry.hosts()[0].pid == os.getpid()  # and nobody else
        assert registry.stats().totals["published"] > 0
    assert published_by(cache) == {host.pid for host in (*old, *new, late)}


def published_by(cache: Path) -> set[int]:
    """Which processes published, as the journal has it: triggers know all versions' hosts."""
    with connected(cache) as connection:
        rows = connection.execute(
            "SELECT DISTINCT pid FROM history JOIN host_history ON host_history.id = host_id "
            "WHERE event = 'published'"
        ).fetchall()
    return {row["pid"] for row in rows}


@pytest.mark.parametrize("earlier", [OLDEST_ADMITTED], indirect=True)
@pytest.mark.parametrize("old_dies", [True, False])
def test_each_version_takes_over_from_the_dead_of_the_other(
    earlier: Path, present: Path, cache: Path, start: Start, old_dies: bool
) -> None:
    claimant, heir = (earlier, present) if old_dies else (present, earlier)
    claiming = start(claimant, "-c", CLAIM, cache)
    says(claiming, "claimed\n")
    claiming.send_signal(signal.SIGKILL)
    claiming.wait()
    assert run(heir, "-c", PREPARE, cache) == "0 artifact\n"
    with Registry(cache) as registry:
        assert registry.stats().totals["published"] == 1


@pytest.mark.parametrize("earlier", [OLDEST_ADMITTED], indirect=True)
@pytest.mark.parametrize("old_prepares", [True, False])
def test_each_version_waits_for_the_living_of_the_other(
    earlier: Path, present: Path, cache: Path, start: Start, old_prepares: bool
) -> None:
    claimant, waiting = (earlier, present) if old_prepares else (present, earlier)
    claiming = start(claimant, "-c", CLAIM, cache)
    says(claiming, "claimed\n")
    joined = start(waiting, "-c", PREPARE, cache)
    says(joined, "waiting for ")
    assert claiming.communicate(timeout=PATIENCE) == ("", "")
    assert joined.communicate(timeout=PATIENCE) == ("0 theirs\n", "")
    assert (claiming.returncode, joined.returncode) == (0, 0)


def test_the_oldest_version_is_the_one_that_the_database_names(cache: Path) -> None:
    Registry(cache).close()
    with connected(cache) as connection:
        ((oldest,),) = connection.execute("SELECT oldest_version FROM cache").fetchall()
    assert oldest == "0.1.0"


def test_the_program_of_the_first_revision_refuses_what_came_later(
    cache: Path, tmp_path: Path
) -> None:
    Registry(cache).close()
    source = tree_of("0001", tmp_path / "source")
    opening = "import sys; from registry import Registry; Registry(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", opening, cache],
        cwd=source,  # it has no README, and so no wheel
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    refusal = done.stderr.splitlines()[-1]
    assert f"SchemaTooNew: the database has schema {migrate.HEAD}" in refusal
    assert "knows (0001); upgrade registry" in refusal
    with Registry(cache) as registry:
        assert registry.get(CODE) is None
