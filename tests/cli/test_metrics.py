"""`metrics`: how the cache stands, for Prometheus."""

from __future__ import annotations

from support.artifacts import failed, prepared
from support.command import Run

from registry import Registry, metrics


def test_metrics_are_those_of_the_cache_and_of_no_single_process(
    run: Run, registry: Registry
) -> None:
    prepared(registry, "one", data=bytes(1000))
    failed(registry, "broken")
    answer = run("metrics")
    assert (answer.code, answer.err) == (0, "")
    assert "registry_prepared_bytes 1000\n" in answer.out
    assert "registry_hosts 2\n" in answer.out  # the command itself is the other one
    assert "registry_hits_total" not in answer.out
    with Registry(registry.cache_dir) as other:  # which knows as little of what ours did
        assert answer.out == metrics.render(metrics.of_cache(other.measure()))


def test_metrics_are_a_document_too(run: Run, registry: Registry) -> None:
    prepared(registry, "one", data=bytes(1000))
    found = {family["name"]: family for family in run("metrics", "--json").document}
    assert found["registry_prepared_bytes"] == {
        "name": "registry_prepared_bytes",
        "kind": "gauge",
        "help": "Bytes of the prepared.",
        "samples": [{"value": 1000, "labels": {}, "suffix": ""}],
    }
