"""The path of a cache: read as a person meant it; refused, in a sentence, before anything is made.

Sync, async and the command alike.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.closed import CODE, tree
from support.command import Command
from support.mounts import mounted, remount
from support.users import NOBODY, as_nobody, open_to_all

from registry import AsyncRegistry, CacheDirectoryRefused, DiskFull, Registry
from registry.opening.cache_path import path_problem
from registry.opening.directory import named_directory
from registry.opening.user_cache import user_cache_dir

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
LONGEST = 492  # 512, less "/registry.db" and "-journal"


def opened(path: str | Path) -> Path:
    with Registry(path) as registry:
        registry.get_or_prepare(CODE, lambda: b"artifact")
        assert registry.check().ok
        return registry.cache_dir


def opened_async(path: str | Path) -> Path:
    async def use() -> Path:
        async with AsyncRegistry(path) as registry:
            await registry.get_or_prepare(CODE, lambda: b"artifact")
            return registry.cache_dir

    return asyncio.run(use())


both = pytest.mark.parametrize("use", [opened, opened_async])
Use = Callable[[str | Path], Path]


def refused(use: Use, path: str | Path) -> str:
    with pytest.raises(CacheDirectoryRefused) as caught:
        use(path)
    assert "Errno" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, in a home of its own."""
    return Command(tmp_path)


# --- what a person means ------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and a working directory beside it."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return home


@both
@pytest.mark.parametrize("kind", [str, Path])
def test_a_tilde_is_the_home_directory(home: Path, use: Use, kind: type) -> None:
    assert use(kind("~/a/cache")) == home / "a" / "cache"
    assert os.listdir() == []


def test_a_tilde_with_a_name_is_that_users_home(home: Path) -> None:
    theirs = os.path.expanduser("~root")
    assert named_directory("~root/cache") == Path(theirs) / "cache"
    assert AsyncRegistry("~root/cache").cache_dir == Path(theirs) / "cache"


@both
@pytest.mark.parametrize("name", ["~nobodyhere", "~nobodyhere/cache"])
def test_a_tilde_that_means_nobody_is_refused(home: Path, use: Use, name: str) -> None:
    assert "there is no user 'nobodyhere'" in refused(use, name)
    assert os.listdir() == []
    assert use(f"./{name}") == Path.cwd() / name  # as the refusal says


@pytest.mark.parametrize("value", ["", "relative"])
def test_a_home_that_is_no_absolute_path_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOME", value)
    assert "$HOME" in refused(opened, "~/cache")
    assert os.listdir() == []


@needs_root
def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has it that is run with a number for a user."""
    for name in ("HOME", "REGISTRY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def use() -> Path:
        os.chdir("/")
        return opened(user_cache_dir())

    said = as_nobody(use, user=3_999_999)
    assert said.startswith("CacheDirectoryRefused: '~/.cache/registry' cannot be used")
    assert "the home directory is not known (set $HOME)" in said


def test_the_command_expands_a_tilde_too(command: Command) -> None:
    work = command.home / "work"
    work.mkdir()
    assert command("db", "upgrade", REGISTRY_CACHE="~/one").code == 0
    assert command("--cache=~/two", "db", "upgrade").code == 0
    assert command("db", "history", "--cache=~/two").code == 0
    for name in ("one", "two"):
        assert (command.home / name / "registry.db").exists()
    assert not (command.home / "~").exists()
    answer = command("--cache=~nobodyhere/cache", "stats")
    assert answer.code == 3
    assert "there is no user 'nobodyhere'" in answer.err


def test_a_relative_cache_stays_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Registry("cache") as registry:
        monkeypatch.chdir("elsewhere")
        made = registry.get_or_prepare(CODE, lambda: b"artifact")
        assert made.path is not None
        assert made.path.is_relative_to(tmp_path / "cache")
        assert registry.prune(cache_limit=0) == []
        assert registry.check(repair=True).ok
    assert os.listdir() == []


def test_an_async_cache_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    registry = AsyncRegistry("cache")
    monkeypatch.chdir("elsewhere")

    async def use() -> None:
        async with registry:
            await registry.get_or_prepare(CODE, lambda: b"artifact")
        async with registry:
            assert await registry.get(CODE) is not None

    asyncio.run(use())
    assert os.listdir() == []


@both
@pytest.mark.parametrize("name", ["cache/", "cache//", "./cache/.", "cache/../cache"])
def test_a_path_may_be_written_in_many_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert use(name) == tmp_path / "cache"


@both
def test_a_name_may_be_any_bytes(tmp_path: Path, use: Use) -> None:
    name = os.fsdecode(b"caf\xe9 \n'`?#%00")
    assert use(tmp_path / name) == tmp_path / name


def test_the_command_takes_a_name_of_any_bytes(command: Command) -> None:
    cache = command.home / os.fsdecode(b"caf\xe9")
    assert command("--cache", cache, "db", "upgrade").code == 0
    for line in (["stats"], ["doctor"], ["stats", "--json"], ["doctor", "--json"]):
        assert command("--cache", cache, *line).code == 0, line
    cache.chmod(0o770)
    assert command("--cache", cache, "stats").code == 3


# --- what no path can be ------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty name"),
        ("nul\0", "NUL"),
        ("\ud800", "no file name can have"),
    ],
)
def test_a_name_that_means_nothing_has_its_sentence(use: Use, name: str, says: str) -> None:
    assert says in refused(use, name)


@pytest.mark.parametrize("name", ["/", "//", "///", "/..", "//..", "/./"])
def test_the_root_is_refused(name: str) -> None:
    problem = path_problem(named_directory(name))  # not opened: if it is not refused, it is made
    assert problem is not None
    assert "root of the file system" in str(problem)
    assert "root of the file system" in refused(opened, "/")


def test_bytes_are_no_path() -> None:
    class Named:
        def __fspath__(self) -> bytes:
            return b"/tmp/cache"

    for wrong in (b"cache", Named()):
        for kind in (Registry, AsyncRegistry):
            with pytest.raises(TypeError, match="Path"):
                kind(wrong)  # type: ignore[arg-type]


def test_a_relative_path_without_a_working_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "it is relative" in refused(opened, "cache")
    assert opened(tmp_path / "cache") == tmp_path / "cache"


@both
@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda top: (top / "file").touch(), "file", "is not a directory"),
        (lambda top: (top / "file").touch(), "file/cache", "file is not a directory"),
        (lambda top: (top / "file").touch(), "file/a/b/cache", "file is not a directory"),
        (lambda top: (top / "link").symlink_to("no"), "link", "symbolic link to nothing"),
        (lambda top: (top / "link").symlink_to("no"), "link/cache", "symbolic link to nothing"),
        (lambda top: (top / "link").symlink_to("link"), "link/cache", "cannot be examined"),
        (lambda top: (top / "link").symlink_to("."), "link", "is a symbolic link to"),
        (lambda top: (top / "link").symlink_to("."), "link/", "is a symbolic link to"),
        (lambda top: None, "a/" + "x" * 256, "256 bytes in it"),
        (lambda top: None, "é" * 128 + "/a", "256 bytes in it"),
        (lambda top: None, "/".join(["x" * 200] * 25), "SQLite allows 492"),
    ],
)
def test_a_path_that_leads_nowhere_has_its_sentence(
    tmp_path: Path, use: Use, make: Callable[[Path], None], name: str, says: str
) -> None:
    make(tmp_path)
    before = tree(tmp_path)
    assert says in refused(use, f"{tmp_path}/{name}")
    assert tree(tmp_path) == before


def of_length(top: Path, size: int) -> Path:
    """A path beneath that has so many bytes."""
    path = os.fsencode(top)
    while size - len(path) > 100:
        path += b"/" + b"d" * 60
    return Path(os.fsdecode(path + b"/" + b"d" * (size - len(path) - 1)))


@both
def test_the_longest_path_works_and_one_byte_more_is_refused(tmp_path: Path, use: Use) -> None:
    assert use(of_length(tmp_path, LONGEST)) == of_length(tmp_path, LONGEST)
    other = tmp_path / "other"
    other.mkdir()
    for size in (LONGEST + 1, 512, 1000, 4095, 5000):
        message = refused(use, of_length(other, size))
        assert f"{size} bytes" in message
        assert str(LONGEST) in message
    assert tree(other) == {}


def test_what_counts_is_how_long_a_path_is_without_its_links(tmp_path: Path) -> None:
    deep = of_length(tmp_path, LONGEST + 1)
    deep.parent.mkdir(parents=True)
    (tmp_path / "short").symlink_to(deep.parent)
    assert "493 bytes" in refused(opened, tmp_path / "short" / deep.name)
    (deep.parent / "back").symlink_to(tmp_path)
    assert opened(deep.parent / "back" / "cache") == tmp_path / "cache"


def test_the_command_refuses_a_long_path_in_one_line(command: Command) -> None:
    cache = of_length(command.home, 495)
    for line in (["stats"], ["db", "history"], ["db", "upgrade"], ["check"]):
        answer = command("--cache", cache, *line)
        assert (answer.code, answer.out) == (3, ""), line
        assert "495 bytes" in answer.err
        assert len(answer.err.splitlines()) == 1
    assert os.listdir(command.home) == []


def test_a_backup_into_a_path_that_is_too_long_is_refused_in_one_line(command: Command) -> None:
    assert command("db", "upgrade").code == 0
    folder = of_length(command.home, 500)
    folder.mkdir(parents=True)
    answer = command("db", "backup", folder / "x.db")
    assert (answer.code, answer.out) == (1, "")
    assert "SQLite allows 504 bytes" in answer.err
    assert os.listdir(folder) == []


# --- what may not be entered or written ---------------------------------------------------------


@needs_root
def test_a_parent_that_may_not_be_entered_is_named() -> None:
    with open_to_all() as top:
        (top / "closed" / "cache").mkdir(parents=True)
        (top / "closed").chmod(0o700)
        for path in (top / "closed" / "cache", top / "closed" / "a" / "b"):
            said = as_nobody(lambda path=path: opened(path))
            assert said.startswith(f"CacheDirectoryRefused: {top}/closed cannot be entered by")
            assert "belongs to user 0, mode 700" in said


@needs_root
def test_a_parent_that_may_not_be_written_is_named_with_a_command_that_helps() -> None:
    with open_to_all() as top:
        cache = top / "it's a" / "cache"
        said = as_nobody(lambda: opened(cache))
        assert said.startswith(f"CacheDirectoryRefused: {cache} cannot be made, because {top} ")
        assert tree(top) == {}
        command = said.split("`")[1].removeprefix("sudo ")
        subprocess.run(["sh", "-c", command], check=True)
        assert cache.stat().st_uid == NOBODY
        assert as_nobody(lambda: opened(cache)) == str(cache)


@needs_root
def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=4m,mode=700") as disk:
        opened(disk / "cache")
        remount(disk, "ro")
        for path in (disk / "cache", disk / "a" / "b"):
            message = refused(opened, path)
            assert f"read-only file system (mounted on {disk})" in message
        subprocess.run(["sh", "-c", message.split("`")[3].removeprefix("sudo ")], check=True)
        assert opened(disk / "a" / "b") == disk / "a" / "b"


@needs_root
def test_where_no_folder_can_be_made_none_is_left(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=4m,nr_inodes=4,mode=700") as disk:
        with pytest.raises(DiskFull, match="no room left for"):
            Registry(disk / "a" / "b" / "cache")
        assert os.listdir(disk) == []
