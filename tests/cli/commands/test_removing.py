"""`rm` and `retry`: each artifact named is dealt with, whatever the others do."""

from __future__ import annotations

from support.artifacts import failed, prepared
from support.command import Command, Run

from registry import ArtifactId, Registry, State


def test_removed_artifacts_are_gone_with_their_files_and_are_listed(
    command: Command, registry: Registry
) -> None:
    one, two = prepared(registry, "one"), prepared(registry, "two")
    answer = command("rm", one.id.short, two.id.short, "--json")
    assert answer.code == 0
    assert [item["label"] for item in answer.document] == ["one", "two"]
    assert [item["size"] for item in answer.document] == [one.size, two.size]
    for artifact in (one, two):
        assert registry.get(artifact.id) is None
        assert artifact.path is not None
        assert not artifact.path.exists()


def test_one_that_cannot_be_removed_does_not_save_the_others(run: Run, registry: Registry) -> None:
    one, busy = prepared(registry, "one"), ArtifactId.of(b"busy")
    with registry.claim(busy):
        answer = run("rm", "--json", "abcdef", busy.short, one.id.short)
        assert registry.get(busy) is not None
    assert answer.code == 1
    assert [error["type"] for error in answer.errors] == ["UnknownArtifact", "ArtifactBusy"]
    assert [item["label"] for item in answer.document] == ["one"]
    assert registry.get(one.id) is None


def test_an_artifact_named_twice_is_removed_once(run: Run, registry: Registry) -> None:
    one = prepared(registry, "one")
    answer = run("rm", "--json", one.id.short, one.id.short)
    assert (answer.code, answer.error["type"]) == (1, "UnknownArtifact")
    assert len(answer.document) == 1


def test_a_failed_artifact_may_be_tried_again_at_once(run: Run, registry: Registry) -> None:
    broken = failed(registry, "broken")
    assert broken.retry_at is None
    answer = run("retry", broken.id.short, "--json")
    (listed,) = answer.document
    assert (answer.code, listed["state"], listed["num_failures"]) == (0, "failed", 0)
    assert listed["retry_at"] is not None
    assert prepared(registry, "broken").state is State.PREPARED


def test_what_has_not_failed_cannot_be_tried_again(run: Run, registry: Registry) -> None:
    one = prepared(registry, "one")
    answer = run("retry", one.id.short)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: {one} has not failed")
    assert registry.get(one.id) == one
