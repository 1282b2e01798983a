"""Settings are the cache's: what one process changes, the others obey."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from processes.crew import Crew, Line
from processes.traces import claimed, code_id, query
from registry import CleanupConfig, Registry


def fails_publishes_and_needs(line: Line, cache: Path) -> None:
    """Do, with one handle that was open all the time, what one is told to."""
    with Registry(cache) as registry:
        word = line.ask("ready")
        while word != "end":
            verb, name = word
            if verb == "fail":
                claimed(registry, code_id(name)).fail("it failed")
            elif verb == "publish":
                claimed(registry, code_id(name)).publish(b"x" * 1000)
            elif verb == "claim":
                claim = claimed(registry, code_id(name))
                line.ask("claimed")
                claim.release()
            elif verb == "need until written":
                last = registry.get(code_id(name)).last_time_needed
                while registry.need(code_id(name)).last_time_needed == last:
                    pass
            elif verb == "need":
                registry.need(code_id(name))
            word = line.ask("done")


def test_a_running_host_obeys_changed_limits_at_once(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        host = crew.start(fails_publishes_and_needs, cache)
        for name in ("a", "b", "c"):
            host.hear()
            host.tell(("publish", name))
        host.expect("done")
        assert registry.stats().prepared_count == 3

        registry.configure(cache_limit=2000, min_stale_time=timedelta(0))
        host.tell(("publish", "d"))
        host.expect("done")

        assert {a.id for a in registry.artifacts()} == {code_id("c"), code_id("d")}
        host.tell("end")
        assert host.last_word() is None


def test_a_running_host_obeys_changed_retries_and_timeouts_at_once(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        host = crew.start(fails_publishes_and_needs, cache)
        host.expect("ready")

        registry.configure(retry_cooldown=timedelta(hours=2), prepare_timeout=timedelta(hours=3))
        host.tell(("fail", "a"))
        host.expect("done")
        failed = registry.get(code_id("a"))
        assert failed.retry_at - failed.last_time_failed == timedelta(hours=2)
        registry.configure(max_retries=0)
        host.tell(("fail", "b"))
        host.expect("done")
        assert registry.get(code_id("b")).retry_at is None

        host.tell(("claim", "c"))
        host.expect("claimed")
        assert query(cache, "SELECT deadline - claimed_at FROM artifact WHERE deadline > 0") == [
            (3 * 3600 * 10**6,)
        ]
        host.tell("release it")
        host.expect("done")
        host.tell("end")
        assert host.last_word() is None


def test_a_hot_artifact_obeys_a_changed_stale_time_within_its_resolution(
    cache: Path, crew: Crew
) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("a"), lambda: b"a")
        host = crew.start(fails_publishes_and_needs, cache)
        host.expect("ready")
        host.tell(("need", "a"))  # hot from now on, and written once a second at most
        host.expect("done")

        registry.configure(min_stale_time=timedelta(0))
        host.tell(("need until written", "a"))
        host.expect("done")

        written = set()
        for _ in range(3):  # every need is written now
            host.tell(("need", "a"))
            host.expect("done")
            written.add(registry.get(code_id("a")).last_time_needed)
        assert len(written) == 3
        host.tell("end")
        assert host.last_word() is None


def test_a_handles_own_limits_are_its_own(cache: Path, crew: Crew) -> None:
    own = CleanupConfig(cache_limit=0, min_stale_time=timedelta(0))
    with Registry(cache) as registry, Registry(cache, cleanup=own) as strict:
        host = crew.start(fails_publishes_and_needs, cache)
        for name in ("a", "b"):
            host.hear()
            host.tell(("publish", name))
        host.expect("done")
        assert registry.stats().prepared_count == 2

        claimed(strict, code_id("c")).publish(b"c")

        assert [artifact.id for artifact in registry.artifacts()] == [code_id("c")]
        host.tell("end")
        assert host.last_word() is None
