"""`stats`, `prune` and `check`: the cache as a whole."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from datetime import timedelta

import pytest
from support.artifacts import failed, prepared
from support.command import Command, Run
from support.mounts import mounted

from registry import ArtifactId, Registry

KIB = 1024


def _fill(registry: Registry, *names: str) -> None:
    for name in names:
        prepared(registry, name, data=bytes(KIB))


def test_stats_are_those_of_the_library(run: Run, registry: Registry) -> None:
    _fill(registry, "one", "two")
    failed(registry, "broken")
    with registry.claim(ArtifactId.of(b"slow")):
        registry.need(ArtifactId.of(b"one"))
        told = dataclasses.asdict(registry.stats())
        told["totals"] |= {"hits": 0, "misses": 0}  # which this handle has not told the cache yet
        answer = run("stats", "--json")
        assert answer.document == told
        people = run("stats").out
    assert people.splitlines() == [
        "prepared   2, 2.0 KiB of 10.0 GiB",
        "preparing  1",
        "failed     1, 12 B of errors",
    ]


def test_stats_tell_people_how_often_what_was_needed_was_there(command: Command, run: Run) -> None:
    with Registry(command.cache) as registry:
        _fill(registry, "one", "two", "three")  # a miss each
        assert registry.need(ArtifactId.of(b"one")) is not None
        registry.prune(cache_limit=2 * KIB, min_stale_time=timedelta(0))
    lines = run("stats").out.splitlines()
    assert lines[3:] == [
        "needs      4, 25.0% of them hits; 0 waits for another",
        "pruned     1, 1.0 KiB; 0 prepared again since",
    ]


def test_stats_tell_people_that_the_limit_is_below_the_working_set(
    run: Run, registry: Registry
) -> None:
    _fill(registry, "one", "two")
    registry.configure(cache_limit=2 * KIB)
    assert "too small" not in run("stats").out
    registry.configure(cache_limit=KIB)
    assert "too small: the artifacts needed within min_stale_time exceed it" in run("stats").out


def test_stats_tell_people_when_there_is_more_than_the_limit(run: Run, registry: Registry) -> None:
    _fill(registry, "one", "two")
    registry.configure(cache_limit=KIB)
    assert "over the limit by 1.0 KiB" in run("stats").out


def test_pruning_takes_the_least_recently_needed_and_says_which_in_order(
    command: Command, registry: Registry
) -> None:
    _fill(registry, "one", "two", "three", "four")
    before = {artifact.label: artifact for artifact in registry.artifacts()}
    answer = command("prune", "--limit", "2KiB", "--min-stale", "0", "--json")
    assert [item["label"] for item in answer.document] == ["one", "two"]
    assert [artifact.label for artifact in registry.artifacts()] == ["four", "three"]
    for label, artifact in before.items():
        assert artifact.path is not None
        assert artifact.path.exists() == (label in ("three", "four"))


def test_a_dry_run_names_the_same_and_takes_nothing(run: Run, registry: Registry) -> None:
    _fill(registry, "one", "two", "three")
    kept = list(registry.artifacts())
    answer = run("prune", "--limit", "1KiB", "--min-stale", "0", "--dry-run")
    assert [line.split()[-1] for line in answer.out.splitlines()[1:]] == ["one", "two"]
    assert answer.err == "artifacts to prune: 2, 2.0 KiB\n"
    assert list(registry.artifacts()) == kept


def test_what_was_needed_recently_is_kept_by_default(run: Run, registry: Registry) -> None:
    _fill(registry, "one", "two")
    assert run("prune", "--limit", "0", "--json").document == []
    assert len(list(registry.artifacts())) == 2


def test_a_sound_cache_passes_its_check(run: Run, registry: Registry) -> None:
    _fill(registry, "one")
    assert run("check").out == "all is in order\n"
    answer = run("check", "--checksums", "--json")
    assert (answer.code, answer.document["ok"], answer.document["problems"]) == (0, True, [])


def test_a_missing_file_is_found_and_can_be_repaired(run: Run, registry: Registry) -> None:
    _fill(registry, "one", "two")
    one = registry.get(ArtifactId.of(b"one"))
    assert one is not None
    assert one.path is not None
    os.unlink(one.path)
    found = run("check", "--json")
    assert (found.code, found.document["ok"]) == (1, False)
    (problem,) = found.document["problems"]
    assert set(problem) == {"kind", "subject", "message"}
    assert run("check", "--repair").code == 1
    assert run("check").code == 0
    assert [artifact.label for artifact in registry.artifacts()] == ["two"]


def test_a_flipped_bit_is_found_by_checksums_alone(run: Run, registry: Registry) -> None:
    one = prepared(registry, "one", data=b"true")
    assert one.path is not None
    one.path.chmod(0o600)
    one.path.write_bytes(b"tree")
    assert run("check").code == 0
    answer = run("check", "--checksums")
    assert answer.code == 1
    problem, message = answer.out.splitlines()
    assert problem == f"damaged_file: {one.id}"
    assert one.path.name in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_stats_tell_where_hardly_a_file_can_be_made(command: Command) -> None:
    with mounted(command.home / "disk", "size=16m,nr_inodes=100,mode=700") as disk:
        Registry(disk / "cache").close()
        lines = command("--cache", disk / "cache", "stats").out.splitlines()
        assert not [line for line in lines if line.startswith("inodes")]
        with suppress(OSError):
            for number in range(200):
                (disk / str(number)).touch()
        lines = command("--cache", disk / "cache", "stats").out.splitlines()
        (told,) = [line for line in lines if line.startswith("inodes")]
        assert told.endswith("free; `registry doctor` says what to do")
