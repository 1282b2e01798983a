"""`metrics`: how the cache stands, for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.artifacts import failed, prepared
from support.command import Run

from registry import ArtifactId, PreparationFailed, PrepareError, Registry, metrics


def test_metrics_are_those_of_the_cache_and_of_no_single_process(
    run: Run, registry: Registry
) -> None:
    prepared(registry, "one", data=bytes(1000))
    failed(registry, "broken")
    answer = run("metrics")
    assert (answer.code, answer.err) == (0, "")
    assert "registry_prepared_bytes 1000.0\n" in answer.out
    assert "registry_hosts 2.0\n" in answer.out  # the command itself is the other one
    assert "registry_hits_total" not in answer.out
    with Registry(registry.cache_dir) as other:  # which knows as little of what ours did
        assert answer.out == metrics.render(metrics.of_cache(other.measure()))


def test_metrics_are_a_document_too(run: Run, registry: Registry) -> None:
    prepared(registry, "one", data=bytes(1000))
    found = {family["name"]: family for family in run("metrics", "--json").document}
    assert found["registry_prepared_bytes"] == {
        "name": "registry_prepared_bytes",
        "kind": "gauge",
        "help": "Bytes of prepared artifacts.",
        "samples": [{"value": 1000, "labels": {}, "suffix": ""}],
    }


EVIL = '\x1b[2J\x1b]0;owned\x07\r\nFAKE\u202e\u2028\x9b31m"}\\ {a="b"} 1\nregistry_evil 1'


def test_what_people_wrote_is_shown_and_never_obeyed(run: Run, registry: Registry) -> None:
    """An error of any text, in every text that the command writes."""

    def prepare() -> bytes:
        raise PrepareError(EVIL * 3, kind=EVIL)

    bad = ArtifactId.of(b"bad")
    with pytest.raises(PreparationFailed):
        registry.get_or_prepare(bad, prepare, label=EVIL)
    registry.get_or_prepare(ArtifactId.of(b"good"), lambda: b"made", label=EVIL)
    claim = registry.claim(ArtifactId.of(b"claimed"), label=EVIL)
    prefix = bad.code_hash[:12]
    for words in (
        ["metrics"], ["ls"], ["show", prefix], ["why", prefix], ["watch", "--once"], ["stats"],
        ["doctor"], ["hosts"], ["check"], ["retry", prefix], ["rm", EVIL], ["config", "list"],
        ["prune", "--limit", "0", "--min-stale", "0"], ["rm", prefix],
    ):  # fmt: skip
        answer = run(*words)
        lines = (answer.out + answer.err).split("\n")
        assert [line for line in lines if not line.isprintable()] == [], words
        if words[0] != "show":  # which indents the further lines of an error
            lines = [line.lstrip() for line in lines]
        assert not any(line.startswith(("FAKE", "registry_evil")) for line in lines), words
    assert claim


def test_kinds_that_read_alike_are_one_series(run: Run, registry: Registry) -> None:
    for number, kind in enumerate(["\x1b", "\\x1b", "other"]):

        def prepare(kind: str = kind) -> bytes:
            raise PrepareError("no", kind=kind)

        with pytest.raises(PreparationFailed):
            registry.get_or_prepare(ArtifactId.of(b"%d" % number), prepare)
    told = [line for line in run("metrics").out.splitlines() if "failed_artifacts{" in line]
    assert sorted(told) == [
        'registry_failed_artifacts{kind="\\\\x1b"} 2.0',
        'registry_failed_artifacts{kind="other"} 1.0',
    ]


def test_a_name_of_any_bytes_is_shown_but_given_to_shells_as_it_is(
    run: Run, registry: Registry, tmp_path: Path
) -> None:
    copy = tmp_path / "copy\x1b[2J.db"
    assert run("db", "backup", str(copy)).out.startswith(f"{tmp_path}/copy\\x1b[2J.db: ")
    odd = tmp_path / "odd\u00a0\x1b"
    with Registry(odd):
        assert run("--cache", str(odd), "db", "path").out == f"{odd}/registry.db\n"
