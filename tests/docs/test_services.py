"""The services of docs/howto.md, served: real workers of gunicorn and of Celery share one cache."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from registry import ArtifactId, Registry, State

ROOT = Path(__file__).parents[2]
HOWTO = (ROOT / "docs" / "howto.md").read_text()
PATIENCE = 60.0
WORKERS = 2

# What the broker is, is no part of the example; this one is a folder.
CONFIGURED = """
from pathlib import Path

from tasks import app, compiled

messages = Path("messages")
messages.mkdir(exist_ok=True)
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": messages, "data_folder_out": messages, "control_folder": "control"
    },
    result_backend=f"file://{Path.cwd()}",
)
"""
ASK = """
from configured import compiled

asked = [compiled.delay(source) for source in ["one", "two", "one", "two", "three"]]
print([each.get(timeout=50) for each in asked])
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the files of the page in it."""
    for block in HOWTO.split('```python title="')[1:]:
        name, _, text = block.partition('"\n')
        (tmp_path / name).write_text(text.partition("```")[0])
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    """One with our package, and a home of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), str(home), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "HOME": str(home), "PYTHONPATH": path}


@contextmanager
def serving(registry: Registry, home: Path, *command: str) -> Iterator[None]:
    """Let a service run meanwhile, from when all its workers are up until it ends as asked."""
    with (
        open(home / "log", "w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=home,
            env=environment(home),
            stdout=log,
            stderr=log,
        ) as service,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while len(list(registry.hosts())) <= WORKERS:
                assert service.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.02)
            yield
        finally:
            service.terminate()
            code = service.wait(PATIENCE)
        assert code == 0, Path(log.name).read_text()


def assert_prepared_once_each(registry: Registry, *codes: bytes) -> None:
    made = sorted(ArtifactId.of(code) for code in codes)
    assert sorted(it.id for it in registry.artifacts(state=State.PREPARED)) == made
    assert sorted(it.id for it in registry.events() if it.event == "published") == made
    assert [host.pid for host in registry.hosts()] == [os.getpid()]  # the others left, or died
    assert registry.check(checksums=True).ok


class Local(HTTPConnection):
    """A connection to the socket in the current directory."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("socket")


def body(path: str) -> bytes:
    connection = Local("localhost", timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def test_workers_of_gunicorn_share_a_cache(
    home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gunicorn")
    monkeypatch.chdir(home)
    command = ("gunicorn", "--workers", str(WORKERS), "--bind", "unix:socket", "service")
    with serving(registry, home, *command):
        bodies = [body(f"/{n % 2}") for n in range(10)]
    assert bodies == [b"compiled /0", b"compiled /1"] * 5
    assert_prepared_once_each(registry, b"/0", b"/1")


def test_workers_of_celery_share_a_cache(home: Path, registry: Registry) -> None:
    pytest.importorskip("celery")
    (home / "configured.py").write_text(CONFIGURED)
    command = ("celery", "--app", "configured", "worker", "--concurrency", str(WORKERS))
    with serving(registry, home, *command):
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=home,
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert asked.stdout == "[12, 12, 12, 12, 14]\n", asked.stderr
    assert_prepared_once_each(registry, b"one", b"two", b"three")
