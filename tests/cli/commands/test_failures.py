"""What the command tells of the failures that are kept, and of those that are forgotten."""

from __future__ import annotations

from support.command import Run
from support.making import claimed

from registry import ArtifactId, Registry


def failed_with(registry: Registry, number: int) -> None:
    claimed(registry, ArtifactId.of(b"bad code %d" % number)).fail("e" * 2048)


def test_the_command_tells_of_failures(registry: Registry, run: Run) -> None:
    for number in range(5):
        failed_with(registry, number)
    assert "failed     5, 10.0 KiB of errors" in run("stats").out.splitlines()
    run("config", "set", "failed_max_count", "2")
    found = {line["name"]: line for line in run("doctor", "--json").document}
    assert found["failures"]["verdict"] == "note"
    assert "failures forgotten because of their limits: 3" in run("prune").err
    assert "forgotten  3 failures, because of their limits" in run("stats").out.splitlines()
    found = {line["name"]: line for line in run("doctor", "--json").document}
    assert (found["failures"]["verdict"], found["clock"]["verdict"]) == ("ok", "ok")
