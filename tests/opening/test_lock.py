"""Whom a long migration keeps waiting, and whom it does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from processes.crew import PATIENCE

from registry import ArtifactId, Registry
from registry.opening.lock import in_turn


def test_a_long_migration_of_one_cache_keeps_no_thread_from_another(tmp_path: Path) -> None:
    migrating, go_on, opened = threading.Event(), threading.Event(), threading.Event()

    def migrate() -> None:
        migrating.set()
        assert go_on.wait(PATIENCE)

    def use_another() -> None:
        with Registry(tmp_path / "another") as registry:
            registry.get_or_prepare(ArtifactId.of(b"x"), lambda: b"x")
        opened.set()

    Registry(tmp_path / "cache").close()
    slow = threading.Thread(target=in_turn, args=(tmp_path / "cache", migrate))
    user = threading.Thread(target=use_another)
    slow.start()
    assert migrating.wait(PATIENCE)
    user.start()
    was_opened = opened.wait(PATIENCE / 2)
    go_on.set()
    slow.join()
    user.join()
    assert was_opened


def test_a_fork_waits_for_a_migration_to_end(tmp_path: Path) -> None:
    migrating, about_to_fork, ended = threading.Event(), threading.Event(), []

    def migrate() -> None:
        migrating.set()
        assert about_to_fork.wait(PATIENCE)
        for number in range(3):  # other handles come and go while the fork waits
            Registry(tmp_path / str(number)).close()
        ended.append(True)

    Registry(tmp_path / "cache").close()
    slow = threading.Thread(target=in_turn, args=(tmp_path / "cache", migrate))
    slow.start()
    assert migrating.wait(PATIENCE)
    about_to_fork.set()
    child = os.fork()
    if child == 0:
        os._exit(0 if ended else 1)
    slow.join()
    assert os.waitpid(child, 0)[1] == 0
