"""`why`: what happened to an artifact, and why it was prepared again."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time
from support.artifacts import failed, prepared
from support.command import Run
from support.tables import connected, die

from registry import Artifact, ArtifactId, Claim, Registry

NOW = timedelta(0)
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def prune(registry: Registry) -> None:
    registry.prune(cache_limit=0, min_stale_time=NOW)


def why(run: Run, artifact: Artifact) -> str:
    """The reason that is given."""
    answer = run("why", artifact.id.code_hash[:12], "--json")
    assert (answer.code, answer.err) == (0, "")
    reason: str = answer.document["why"]
    return reason


def test_the_whole_story_is_told_to_people(run: Run, registry: Registry) -> None:
    with freeze_time(START) as clock:
        first = prepared(registry, "parser.wasm", data=bytes(2048))
        clock.tick(timedelta(hours=25))
        prune(registry)
        clock.tick(timedelta(hours=3))
        prepared(registry, "parser.wasm", data=bytes(2048))
    lines = run("why", first.id.code_hash[:12]).out.splitlines()
    assert lines[:3] == [
        f"artifact  parser.wasm ({first.id.short})",
        "state     prepared",
        "prepared  2 times",
    ]
    assert lines[3].startswith(
        "why       it was prepared again because it had been pruned by a limit given to prune "
        "(2.0 KiB, not needed for 1d, prepared in "
    )
    assert [line.split()[3:5] for line in lines[4:]] == [
        ["claimed", "by"],
        ["published", "2.0"],
        ["pruned", "asked,"],
        ["claimed", "by"],
        ["published", "2.0"],
    ]
    assert lines[6].startswith("2026-01-02 13:00:00 UTC  pruned      asked, 2.0 KiB, not needed")
    assert "3h after it was pruned" in lines[-1]
    assert all(f"by process {os.getpid()} (" in line for line in lines[3:])


def test_programs_get_every_event(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    registry.remove(artifact.id)
    document = run("why", artifact.id.code_hash[:12], "--json").document
    assert (document["code_hash"], document["state"]) == (artifact.id.code_hash, None)
    assert document["label"] == "one"
    events = document["events"]
    assert [event["event"] for event in events] == ["claimed", "published", "removed"]
    assert events[1]["prepare_seconds"] == artifact.prepare_seconds
    assert datetime.fromisoformat(events[1]["at"]) == artifact.last_time_needed
    assert {event["prep_hash"] for event in events} == {artifact.id.prep_hash}


def test_what_was_prepared_once_was_not_prepared_again(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    assert why(run, artifact) == "the first recorded preparation"


def test_failures_are_no_reason_but_are_told(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    registry.remove(artifact.id)
    for _ in range(2):
        failed(registry, "one", error="no such luck")
        registry.retry(artifact.id)
    prepared(registry, "one")
    reason = why(run, artifact)
    assert reason.startswith("it was prepared again because it had been removed by hand (8 B, ")
    assert reason.endswith("; it failed 2 times before, the last time with: no such luck")


def test_a_death_is_told_as_one(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    prune(registry)
    claim = registry.claim(artifact.id)
    assert isinstance(claim, Claim)
    die(registry.cache_dir, artifact.id)
    registry.wait(artifact.id)
    prepared(registry, "one")
    assert why(run, artifact).endswith(
        "failed once before, the last time with: the host that prepared it died"
    )


@pytest.mark.parametrize(
    ("data", "words"), [(None, "found without its file"), (b"changed!", "found damaged")]
)
def test_a_bad_file_is_a_reason(
    run: Run, registry: Registry, tmp_path: Path, data: bytes | None, words: str
) -> None:
    artifact = prepared(registry, "one")
    assert artifact.path is not None
    artifact.path.unlink()
    if data is not None:
        artifact.path.write_bytes(data)
    with Registry(registry.cache_dir) as fresh:
        prepared(fresh, "one")
    assert f"because it had been {words} (8 B, " in why(run, artifact)


def test_an_end_that_nobody_wrote_down_is_told_as_such(run: Run, registry: Registry) -> None:
    """A host that is killed between the deletion and the journal leaves no word of it."""
    artifact = prepared(registry, "one")
    prune(registry)
    with connected(registry.cache_dir) as connection:
        connection.execute("DELETE FROM history WHERE event = 'pruned'")
    prepared(registry, "one")
    assert why(run, artifact).endswith("it had been lost without a record")


def test_what_is_gone_is_told_with_who_took_it(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    registry.configure(cache_limit=0, min_stale_time=NOW)
    registry.prune()
    lines = run("why", artifact.id.short).out.splitlines()
    assert lines[1].startswith("state     gone: pruned to keep within cache_limit (8 B, not needed")
    assert f" by process {os.getpid()} (" in lines[1]


def test_what_has_only_failed_was_never_prepared(run: Run, registry: Registry) -> None:
    artifact = failed(registry, "broken")
    assert why(run, artifact) == "no preparation is recorded"
    assert run("why", artifact.id.short).out.splitlines()[1] == (
        "state     failed, 1 time; may be tried again: only after `registry retry`"
    )


def test_what_nobody_ever_asked_for_is_unknown(run: Run, registry: Registry) -> None:
    answer = run("why", "abc123", "--json")
    assert (answer.code, answer.error["type"]) == (1, "UnknownArtifact")


# --- the alarm ----------------------------------------------------------------------------------


def test_stats_and_doctor_tell_of_a_cache_that_is_too_small(run: Run, registry: Registry) -> None:
    prepared(registry, "one")
    assert "too small" not in run("stats").out
    prune(registry)
    prepared(registry, "one")
    assert "too small: 1 prepared again within a day of being pruned, in " in run("stats").out
    answer = run("doctor", "--json")
    (finding,) = [found for found in answer.document if found["name"] == "evictions"]
    assert (answer.code, finding["verdict"]) == (1, "problem")
    assert "config set cache_limit SIZE" in finding["advice"]
    document = run("stats", "--json").document
    assert document["totals"]["rebuilt_soon"] == document["rebuilt_lately"]["count"] == 1


def test_what_is_true_now_is_told(run: Run, registry: Registry) -> None:
    it = ArtifactId.of(b"it")
    with registry.claim(it) as claim:
        _, state, *_ = run("why", it.short).out.splitlines()
        assert state.startswith(f"state     preparing by process {os.getpid()} on ")
        assert ", since " in state
        claim.fail("one\n  two\n\nthree\n", retryable=True)
    out = run("why", it.short).out
    assert "failed, 1 time; may be tried again: 2" in out
    assert "one; two; three" in out
    assert "\\n" not in out
    registry.configure(retry_cooldown=timedelta(0))
    assert run("retry", it.short).err == ""
    assert "now, when a process next needs it" in run("why", it.short).out
    assert run("retry", it.short).err.endswith("might be tried again already\n")
