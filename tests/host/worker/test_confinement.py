"""Confined jobs: what they reach for and do not get, and what they need and have.

By the real kernel; where it offers no Landlock, there is nothing to be seen.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest
from host.hosting import hosting, published
from host.stories import story, wish

from registry import InvalidSetting, PossiblyInvalid, PreparationFailed
from registry.confinement import isolation, landlock
from registry.confinement.isolation import Means
from registry.confinement.landlock import Access
from registry.host import Confinement
from registry.host.worker.confinement import from_wire, to_wire

FRESH = wish("answer")
since = landlock.version()
needs_landlock = pytest.mark.skipif(since < 1, reason="the kernel offers no Landlock")


def needs_release(number: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(since < number, reason=f"the kernel's Landlock is before {number}")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that is no business of any job."""
    path = tmp_path / "outside"
    path.write_text("private")
    return path


def reaching(cache: Path, outside: Path) -> dict[str, dict[str, object]]:
    """What a job might reach for; it is given the path of its own artifact by the backend."""
    return {
        "write outside": {"do": "write file", "path": str(outside)},
        "make a file outside": {"do": "write file", "path": str(outside.with_name("new"))},
        "read outside": {"do": "read file", "path": str(outside)},
        "read the database": {"do": "read file", "path": str(cache / "registry.db")},
        "read it by the back door": {
            "do": "read file",
            "path": f"/proc/self/root{cache}/registry.db",
        },
        "list the cache": {"do": "list folder", "path": str(cache)},
        "unlink the artifacts": {"do": "empty folder", "path": str(cache / "artifacts")},
        "change its artifact": {"do": "write file", "path": "../artifact"},
        "read its host's memory": {
            "do": "read file",
            "path": f"/proc/{os.getpid()}/mem",
            "size": 0,
        },
    }


# In namespaces of its own, it does not even see its host.
REFUSED = "PermissionError|FileNotFoundError.*/proc/"
DEEDS = sorted(reaching(Path("cache"), Path("outside")))


@needs_landlock
@pytest.mark.parametrize("deed", DEEDS)
@story
async def test_what_an_execution_must_not_reach_it_does_not(hosted, outside, deed):
    reach = reaching(hosted, outside)[deed]
    artifact = published(hosted, FRESH)
    async with hosting(hosted, confinement=Confinement()) as host:
        if deed == "unlink the artifacts":
            reach["names"] = [artifact.path.name]
        with pytest.raises(PossiblyInvalid, match=REFUSED) as caught:
            await host.execute(FRESH, {}, reach)
        assert caught.value.kind == "job_error"
        assert await host.execute(FRESH, {}, {"do": "read"}) == b"prepared"
    assert outside.read_text() == "private"
    assert artifact.path.read_bytes() == b"prepared"


@needs_landlock
@pytest.mark.parametrize("deed", [deed for deed in DEEDS if deed != "change its artifact"])
@story
async def test_what_a_preparation_must_not_reach_it_does_not(hosted, outside, deed):
    artifact = published(hosted, FRESH)
    names = {"names": [artifact.path.name]} if deed == "unlink the artifacts" else {}
    reach = reaching(hosted, outside)[deed] | names
    async with hosting(hosted, confinement=Confinement()) as host:
        with pytest.raises(PreparationFailed, match=REFUSED) as caught:
            await host.precheck(wish(**reach))
        assert caught.value.artifact.error_kind == "io_err"
        assert await host.precheck(wish("answer", more=1))
    assert outside.read_text() == "private"
    assert artifact.path.read_bytes() == b"prepared"


@needs_landlock
@story
async def test_a_confined_job_has_its_own_folder_its_imports_and_its_programs(hosted):
    async with hosting(hosted, confinement=Confinement()) as host:
        await host.precheck(wish("burn in a child", seconds=0))
        await host.precheck(wish("litter"))
        await host.execute(FRESH, {}, {"do": "write file", "path": "new"})
        assert await host.execute(FRESH, {}, {"do": "import", "name": "sqlite3.dump"})
        await host.execute(FRESH, {}, {"do": "write file", "path": "/dev/null"})
        assert await host.execute(FRESH, {}, {"do": "read file", "path": "/dev/zero", "size": 1})


@needs_landlock
@story
async def test_what_a_backend_needs_besides_it_can_be_given(hosted, outside, tmp_path):
    writable = tmp_path / "log"
    writable.mkdir()
    given = Confinement(read=[outside], write=[writable])
    async with hosting(hosted, confinement=given) as host:
        read = {"do": "read file", "path": str(outside)}
        assert await host.execute(FRESH, {}, read) == b"private"
        await host.execute(FRESH, {}, {"do": "write file", "path": str(writable / "new")})
        with pytest.raises(PossiblyInvalid, match="PermissionError"):
            await host.execute(FRESH, {}, {"do": "write file", "path": str(outside)})
    assert (writable / "new").read_text() == "written"


@needs_landlock
@story
async def test_a_cache_beneath_the_import_path_is_out_of_reach_and_its_neighbours_are_not(
    hosted, outside, monkeypatch
):
    monkeypatch.syspath_prepend(str(hosted.parent))
    (hosted.parent / "shortcut").symlink_to(hosted / "registry.db")
    (hosted.parent / "up").symlink_to(hosted.parent)
    async with hosting(hosted, confinement=Confinement()) as host:
        read = {"do": "read file", "path": str(outside)}
        assert await host.execute(FRESH, {}, read) == b"private"
        for path in (hosted / "registry.db", hosted.parent / "shortcut"):
            with pytest.raises(PossiblyInvalid, match="PermissionError"):
                await host.execute(FRESH, {}, {**read, "path": str(path)})


@needs_release(4)
@story
async def test_a_confined_job_connects_to_nobody(hosted):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = {"do": "connect", "port": server.getsockname()[1]}
        async with hosting(hosted) as host:
            await host.execute(FRESH, {}, connect)
        async with hosting(hosted, confinement=Confinement()) as host:
            with pytest.raises(PossiblyInvalid, match="PermissionError"):
                await host.execute(FRESH, {}, connect)


@needs_release(6)
@story
async def test_a_confined_job_cannot_kill_its_worker(hosted):
    async with hosting(hosted, confinement=Confinement()) as host:
        with pytest.raises(PossiblyInvalid, match="PermissionError") as caught:
            await host.execute(FRESH, {}, {"do": "signal worker", "signal": 9})
        assert caught.value.kind == "job_error"


@story
async def test_without_it_a_job_may_do_what_its_user_may(hosted, outside):
    async with hosting(hosted) as host:
        await host.execute(FRESH, {}, {"do": "write file", "path": str(outside)})
    assert outside.read_text() == "written"


@story
async def test_a_kernel_that_has_no_landlock_is_told_of(hosted, outside, monkeypatch, caplog):
    monkeypatch.setattr(isolation, "available", Means)
    with caplog.at_level(logging.WARNING, "registry"):
        async with hosting(hosted, confinement=Confinement()):
            pass
    assert "no Landlock" in caplog.text
    assert "NOT held: that a confined job opens no file outside" in caplog.text


@pytest.mark.parametrize("which", ["read", "write"])
@story
async def test_a_path_that_is_not_there_or_lays_the_cache_open_is_refused(cache, which):
    within = (cache / "workers", cache / "registry.db")
    laid_open = (
        (cache.parent, "in it"),
        (cache, "in it"),
        *((path, "it is in") for path in within),
    )
    for path, why in ((cache / "absent", "not there"), *laid_open):
        with pytest.raises(InvalidSetting, match=why):
            async with hosting(cache, confinement=Confinement(**{which: [path]})):
                pass


def test_a_confinement_is_told_to_workers_as_it_is():
    for said in (
        None,
        Confinement(),
        Confinement([Path("/a b")], [Path("/ü")], Path("/c"), Means(7, b"\0\xff", True)),
    ):
        heard = from_wire(to_wire(said))
        assert (heard is None) == (said is None)
        if heard is not None and said is not None:
            assert heard._enclosure() == said._enclosure()


def test_the_accesses_are_those_of_the_kernels_header():
    assert Access.FIRST == 0x1FFF
    assert (Access.REFER, Access.TRUNCATE, Access.CONTROL_DEVICE) == (1 << 13, 1 << 14, 1 << 15)


def test_what_lies_beside_the_cache_is_granted_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where both a backend and the cache are in the current directory."""
    cache, package = tmp_path / "cache", tmp_path / "package"
    for folder in (cache, package):
        folder.mkdir()
    (tmp_path / "up").symlink_to(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    granted = dict(Confinement(hidden=cache)._grants())
    assert granted[str(tmp_path)] == Access.LIST
    assert granted[str(package)] == Access.READ
    assert not any(Path(path).is_relative_to(cache) for path in granted)
