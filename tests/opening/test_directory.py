"""The cache directory: which is made, which is taken, which is refused.

After a refusal, what was there is as it was.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.closed import CODE, prepared_cache, tree
from support.users import NOBODY, as_nobody, open_to_all

from registry import CacheDirectoryRefused, Registry
from registry.opening.directory import file_system


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_what_is_made_is_its_users_alone(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        cache = tmp_path / "a" / "b" / "cache"
        with Registry(cache) as registry:
            registry.get_or_prepare(CODE, lambda: b"artifact")
            made = {"a": tmp_path / "a", "a/b": tmp_path / "a" / "b", "cache": cache}
            made |= {str(path.relative_to(cache)): path for path in cache.rglob("*")}
            modes = {name: path.lstat().st_mode for name, path in made.items()}
    assert {"registry.db", "registry.db-wal", "registry.db-shm", "cache.id", "reserve"} <= set(made)
    for name, mode in modes.items():
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, name
        else:
            published = name.startswith("artifacts/")
            assert stat.S_IMODE(mode) == (0o400 if published else 0o600), name


def test_an_empty_directory_of_ours_is_taken_and_its_mode_left_as_it_is(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(0o755)
    Registry(cache).close()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755


def test_what_is_not_ours_in_the_directory_is_never_touched(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("notes.txt", "artifacts/README", "hosts/README", "workers/README"):
        (cache / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (cache / name).write_text("mine")
    before = tree(cache)
    with Registry(cache) as registry:
        registry.check(repair=True)
    after = tree(cache)
    assert {name: after.get(name) for name in before} == before


def test_a_directory_on_a_read_only_file_system_is_refused_in_so_many_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry(tmp_path / "cache").close()
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    with pytest.raises(CacheDirectoryRefused, match="read-only file system"):
        Registry(tmp_path / "cache")


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707, 0o702, 0o777, 0o1777], ids=oct)
@pytest.mark.parametrize("name", [".", "artifacts", "hosts", "workers"])
def test_a_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, name: str, mode: int
) -> None:
    cache = tmp_path / "cache"
    prepared_cache(cache)
    (cache / name).chmod(mode)
    before = tree(tmp_path)
    with pytest.raises(CacheDirectoryRefused, match="written by others"):
        Registry(cache)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", [0o500, 0o600, 0o400, 0o000], ids=oct)
def test_a_directory_that_we_cannot_use_is_refused(tmp_path: Path, mode: int) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    try:
        with pytest.raises(CacheDirectoryRefused, match="chmod u\\+rwx"):
            Registry(cache)
    finally:
        cache.chmod(0o700)
    assert tree(cache) == {}


def commands(message: str) -> str:
    """The one thing that a refusal says to paste into a shell."""
    (command,) = re.findall("`([^`]*)`", message)
    return str(command).replace("sudo ", "")  # we are root where it matters


@pytest.mark.parametrize("name", ["cache", "it's a $cache; of mine"])
@pytest.mark.parametrize("missing", [(), ("workers", "backups", "damaged")])
def test_a_volume_of_kubernetes_is_refused_once_and_repaired_as_told(
    tmp_path: Path, name: str, missing: tuple[str, ...]
) -> None:
    """What an fsGroup does to a volume each time a pod starts."""
    cache = tmp_path / name
    prepared_cache(cache)
    for folder in {"backups", "damaged"} - set(missing):
        (cache / folder).mkdir()
    for folder in {"workers"} & set(missing):
        (cache / folder).rmdir()
    for path in (cache, *cache.rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o2070 if path.is_dir() else 0o060))
    before = tree(tmp_path)
    with pytest.raises(CacheDirectoryRefused) as refused:
        Registry(cache)
    assert tree(tmp_path) == before
    folders = {"artifacts", "hosts", "workers", "backups", "damaged"} - set(missing)
    for path in (cache, cache / "registry.db", *(cache / folder for folder in folders)):
        assert re.search(re.escape(f"{path} can be written by others (mode "), str(refused.value))
    subprocess.run(["sh", "-c", commands(str(refused.value))], check=True)
    with Registry(cache) as registry:
        assert registry.need(CODE) is not None
    for path in (cache, *cache.rglob("*")):  # the artifacts too, which run as code
        if path.parent == cache / "artifacts" or path.suffix == ".db":
            assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


def test_a_folder_of_such_a_volume_serves(tmp_path: Path) -> None:
    """As the how-to has it: the volume is changed once, what is made in it later is not."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2775)
    for _ in range(2):
        with Registry(volume / "cache") as registry:
            registry.get_or_prepare(CODE, lambda: b"artifact")
    for path in (volume / "cache").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_all_that_is_wrong_is_told_at_once_and_repaired_by_one_line(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepared_cache(cache)
    (cache / "damaged").mkdir()
    os.chown(cache, 12345, 12345)
    os.chown(cache / "hosts", 12345, 12345)
    os.chown(cache / "registry.db", 12345, 12345)
    (cache / "hosts").chmod(0o777)
    (cache / "artifacts").chmod(0o500)
    (cache / "registry.db").chmod(0o400)
    with pytest.raises(CacheDirectoryRefused) as refused:
        Registry(cache)
    for told in (
        f"{cache} belongs to user 12345, not to user 0",
        f"{cache}/hosts belongs to user 12345, not to user 0",
        f"{cache}/hosts can be written by others (mode 777)",
        f"{cache}/artifacts is read-only (mode 500)",
        f"{cache}/registry.db belongs to user 12345",
        f"{cache}/registry.db is read-only (mode 400)",
    ):
        assert told in str(refused.value)
    subprocess.run(["sh", "-c", commands(str(refused.value))], check=True)
    Registry(cache).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_cache_that_root_has_used_is_repaired_as_told() -> None:
    with open_to_all() as top:
        prepared_cache(top / "cache")
        (top / "cache").chmod(0o755)
        said = as_nobody(lambda: Registry(top / "cache").close())
        for name in ("cache", "cache/artifacts", "cache/hosts", "cache/registry.db"):
            assert f"{top}/{name} belongs to user 0, not to user {NOBODY}" in said
        subprocess.run(["sh", "-c", commands(said)], check=True)
        assert as_nobody(lambda: Registry(top / "cache").close()) == "None"


def test_a_database_that_others_can_reach_and_write_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for_us, for_group, for_all = 0o700, 0o750, 0o705
    for folder, file, is_refused in (
        *((for_us, mode, False) for mode in (0o660, 0o606, 0o666)),
        *((for_group, mode, mode & 0o020) for mode in (0o660, 0o606, 0o640)),
        *((for_all, mode, mode & 0o002) for mode in (0o660, 0o606, 0o604)),
    ):
        prepared_cache(cache).chmod(file)
        cache.chmod(folder)
        try:
            Registry(cache).close()
        except CacheDirectoryRefused as error:
            assert is_refused, (oct(folder), oct(file))
            subprocess.run(["sh", "-c", commands(str(error))], check=True)
            Registry(cache).close()
        else:
            assert not is_refused, (oct(folder), oct(file))
        cache.chmod(0o700)
        (cache / "registry.db").chmod(0o600)


def make_file(place: Path) -> None:
    place.write_text("mine")


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


def make_socket(place: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(place))


def make_dangling_link(place: Path) -> None:
    place.symlink_to("nowhere")


def make_link_to_a_directory(place: Path) -> None:
    target = place.with_name("elsewhere")
    target.mkdir(0o700)
    place.symlink_to(target)


@pytest.mark.parametrize(
    "make", [make_file, make_fifo, make_socket, make_dangling_link, make_link_to_a_directory]
)
@pytest.mark.parametrize("name", ["cache", "cache/artifacts", "cache/hosts", "cache/workers"])
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str, make: Any) -> None:
    place = tmp_path / name
    place.parent.mkdir(mode=0o700, exist_ok=True)
    make(place)
    before = tree(tmp_path)
    with pytest.raises(CacheDirectoryRefused):
        Registry(tmp_path / "cache")
    after = tree(tmp_path)
    assert {path: after.get(path) for path in before} == before
    assert not (tmp_path / "cache" / "registry.db").exists()


def test_a_directory_beneath_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheDirectoryRefused):
        Registry(tmp_path / "file" / "cache")


def test_a_path_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    for impossible in ("nul\0", "x" * 300):
        with pytest.raises(CacheDirectoryRefused):
            Registry(tmp_path / impossible)


def test_what_is_no_path_at_all_is_a_type_error() -> None:
    for wrong in (None, 7, b"cache"):
        with pytest.raises(TypeError):
            Registry(wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "artifacts", "hosts", "registry.db"])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    prepared_cache(cache)
    os.chown(cache / name, 12345, 12345)
    with pytest.raises(CacheDirectoryRefused, match="12345"):
        Registry(cache)


@pytest.mark.parametrize("name", ["registry.db", "open.lock"])
def test_a_link_in_the_place_of_a_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    cache, target = tmp_path / "cache", tmp_path / "target"
    cache.mkdir(0o700)
    (cache / name).symlink_to(target)
    for content in (None, b"", b"mine"):
        if content is not None:
            target.write_bytes(content)
        with pytest.raises(CacheDirectoryRefused):
            Registry(cache)
        assert (target.read_bytes() if target.exists() else None) == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
@pytest.mark.parametrize("name", ["plain", "a blank", "tab\t", r"back\040slash", "été", "\u2003"])
def test_a_file_system_is_known_whatever_its_mount_point_is_called(
    tmp_path: Path, name: str
) -> None:
    point = tmp_path / name
    point.mkdir()
    mounted = subprocess.run(["mount", "-t", "ramfs", "registry", point], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no ramfs is to be had: {mounted.stderr!r}")
    try:
        assert file_system(point / "cache") == "ramfs"
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
    assert file_system(point) == file_system(tmp_path) != "ramfs"


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.opening.directory.file_system", lambda _: "nfs4")
    with pytest.raises(CacheDirectoryRefused, match="nfs4"):
        Registry(tmp_path / "cache")
