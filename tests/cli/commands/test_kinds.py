"""`--kind`, and `clear`."""

from __future__ import annotations

from support.command import Run

from registry import ArtifactId, Registry


def _fill(registry: Registry) -> None:
    for number, kind in enumerate(("triton", "triton", "numba", None)):
        registry.put(ArtifactId.of(b"%d" % number), bytes(10), kind=kind, label=f"kernel {number}")


def test_each_command_takes_one_kind_and_no_other(run: Run, registry: Registry) -> None:
    _fill(registry)
    listed = run("ls", "--kind", "triton", "--json").document
    assert {(it["label"], it["kind"]) for it in listed} == {
        ("kernel 0", "triton"),
        ("kernel 1", "triton"),
    }
    assert "of triton  2, 20 B" in run("stats").out
    pruned = run("prune", "--kind", "triton", "--limit", "10B", "--min-stale", "0", "--json")
    assert [it["label"] for it in pruned.document] == ["kernel 0"]
    assert run("clear", "--kind", "triton").out == "artifacts removed: 1\n"
    assert run("clear", "--json").document == {"removed": 2}
    assert registry.stats().prepared_count == 0


def test_what_is_no_kind_is_misuse(run: Run, registry: Registry) -> None:
    _fill(registry)
    for command in ("ls", "prune", "clear"):
        answer = run(command, "--kind", "No kind")
        assert answer.code == 2
        assert "is not a kind" in answer.err
    assert registry.stats().prepared_count == 4
