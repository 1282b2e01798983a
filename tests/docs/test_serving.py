"""The recipes of docs/services.md: each service is started, asked, and stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pytest

from registry import ArtifactId, Registry, State

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("howto.md", "services.md")]
LINES = re.findall(r"^```sh\n(.*?)^```$", PAGES[1].read_text(), re.MULTILINE | re.DOTALL)
MODULE = (ROOT / "examples" / "primes.wat").read_bytes()
PATIENCE = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the files of both pages in it."""
    for page in PAGES:
        for name, text in re.findall(
            r'^```\w+ title="([\w.]+)"\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL
        ):
            (tmp_path / name).write_text(text)
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(home), "REGISTRY_CACHE": str(home / "cache")}
    packages = [str(ROOT), *(it for it in sys.path if it.endswith("-packages"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(packages), **own}


@contextmanager
def serving(home: Path, *command: str) -> Iterator[None]:
    """Let a service run meanwhile, and end it as a terminal does."""
    with (
        open(home / "log", "w") as log,
        subprocess.Popen(
            command, cwd=home, env=environment(home), stdout=log, stderr=log
        ) as service,
    ):
        try:
            yield
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(PATIENCE)


def asked(home: Path, port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Ask as soon as the service listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(connection), suppress(ConnectionRefusedError):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        assert time.monotonic() < deadline, (home / "log").read_text()
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("aiohttp"), reason="aiohttp is not installed")
def test_webassembly_is_served_over_http(home: Path) -> None:
    port = free_port()
    service = home / "wasm_service.py"
    service.write_text(service.read_text().replace("8080", str(port)))
    with serving(home, sys.executable, str(service)):
        right = asked(home, port, "POST", "/count_primes?arg=1000000", MODULE)
        again = asked(home, port, "POST", "/count_primes?arg=100", MODULE)
        wrong = asked(home, port, "POST", "/count_primes?arg=many", MODULE)
        junk = asked(home, port, "POST", "/count_primes", b"no module")
    assert (right[0], again[0], wrong[0], junk[0]) == (200, 200, 422, 422), (right, wrong, junk)
    assert [json.loads(it[1])["values"] for it in (right, again)] == [[78498], [25]]
    with Registry(home / "cache") as cache:
        assert len(list(cache.artifacts(state=State.PREPARED))) == 1
        assert cache.check(checksums=True).ok


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("uwsgi"), reason="uWSGI is not installed")
def test_workers_of_uwsgi_share_a_cache(home: Path) -> None:
    (command,) = (line for line in LINES[0].splitlines() if line.startswith("uwsgi "))
    port = free_port()
    with serving(home, *command.replace("8000", str(port)).split()):
        bodies = [asked(home, port, "GET", f"/{n % 2}") for n in range(10)]
    assert bodies == [(200, b"compiled /0"), (200, b"compiled /1")] * 5
    with Registry(home / "cache") as cache:
        assert len(list(cache.artifacts(state=State.PREPARED))) == 2
        assert cache.check(checksums=True).ok


@pytest.fixture
def filled(home: Path) -> Path:
    with Registry(home / "cache") as cache:
        cache.get_or_prepare(ArtifactId.of(b"code"), lambda: b"artifact", label="demo")
    return home


def said_by(home: Path, command: str) -> str:
    ran = subprocess.run(
        ["sh", "-ec", command], cwd=home, env=environment(home), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(not shutil.which("datasette"), reason="datasette is not installed")
def test_datasette_shows_the_views_and_changes_nothing(filled: Path) -> None:
    page = "--get '/registry/artifacts.json?_shape=array'"
    (row,) = json.loads(said_by(filled, f"{LINES[1].strip()} {page}"))
    assert (row["label"], row["state"]) == ("demo", "prepared")
    with Registry(filled / "cache") as cache:
        assert cache.check(checksums=True).ok


@pytest.mark.skipif(not shutil.which("sqlite-utils"), reason="sqlite-utils is not installed")
def test_sqlite_utils_reads_a_copy(filled: Path) -> None:
    assert "demo" in said_by(filled, LINES[2])
