"""A registry and a plain dict, driven through all verbs at random, and never of two minds.

Two handles stand for two hosts; claims are held, lost, dropped; hosts die; files are spoilt; time
passes. After each step the rows, the files, the usage and the order of the list are compared.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.model import Model, Row
from support.tables import die, files, rows, usage

from registry import (
    Artifact,
    ArtifactBusy,
    ArtifactId,
    Claim,
    ClaimLost,
    PreparationFailed,
    PrepareError,
    Registry,
    WaitTimeout,
)

IDS = [ArtifactId.of(b"code %d" % number) for number in range(5)]
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = timedelta(0)
MICROSECOND = timedelta(microseconds=1)

ids = st.sampled_from(IDS)
hosts = st.integers(0, 1)
sizes = st.sampled_from([1, 500, 1024])
limits = st.sampled_from([0, 1024, 1500, 3000])
stale_times = st.sampled_from([NOW, timedelta(seconds=12), timedelta(hours=1)])
picks = st.integers(0, 99)


class Interruption(BaseException):
    """Ctrl-C, say."""


class Agreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.frozen = self.open.enter_context(freeze_time(START))
        self.cache = Path(self.open.enter_context(tempfile.TemporaryDirectory())) / "cache"
        self.handles = [self.open.enter_context(Registry(self.cache)) for _ in range(2)]
        self.handles[0].configure(cache_limit=3000, min_stale_time=timedelta(seconds=12))
        start = int(START.timestamp()) * 1_000_000
        self.model = Model(start, 3000, 12_000_000, None)
        self.claims: list[tuple[int, Claim]] = []
        self.tokens = 0

    def teardown(self) -> None:
        with self.open:
            self.claims.clear()
            self.handles[0].check(repair=True)
            report = self.handles[1].check(checksums=True)
            assert report.ok, report.problems

    # --- time -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 6, 12, 900, 1800, 3600]))
    def let_time_pass(self, seconds: int) -> None:
        self.frozen.tick(timedelta(seconds=seconds))
        self.model.now += seconds * 1_000_000

    # --- claims ---------------------------------------------------------------------------------

    @rule(host=hosts, id=ids)
    def claim(self, host: int, id: ArtifactId) -> None:
        self.tokens += 1
        wanted = self.model.claim(id, self.tokens)
        answer = self.handles[host].claim(id)
        assert isinstance(answer, Claim) == wanted
        if isinstance(answer, Claim):
            self.claims.append((self.tokens, answer))
        else:
            assert answer == self.handles[host].get(id)

    def pick(self, number: int, *, remove: bool = True) -> tuple[bool, Claim]:
        """A claim, and whether it is still held."""
        position = number % len(self.claims)
        token, claim = self.claims.pop(position) if remove else self.claims[position]
        return self.model.holds(claim.id, token), claim

    @precondition(lambda self: self.claims)
    @rule(number=picks, size=sizes)
    def publish(self, number: int, size: int) -> None:
        held, claim = self.pick(number)
        if held:
            self.model.publish(claim.id, size)
            assert claim.publish(b"x" * size).size == size
        else:
            with pytest.raises(ClaimLost):
                claim.publish(b"x" * size)

    @precondition(lambda self: self.claims)
    @rule(number=picks, retryable=st.booleans())
    def fail(self, number: int, retryable: bool) -> None:
        held, claim = self.pick(number)
        if held:
            self.model.fail(claim.id, "wrong", retryable=retryable)
            claim.fail("it went wrong", kind="wrong", retryable=retryable)
        else:
            with pytest.raises(ClaimLost):
                claim.fail("it went wrong")

    @precondition(lambda self: self.claims)
    @rule(number=picks)
    def release(self, number: int) -> None:
        held, claim = self.pick(number)
        if held:
            self.model.release(claim.id)
            claim.release()
        else:
            with pytest.raises(ClaimLost):
                claim.release()

    @precondition(lambda self: self.claims)
    @rule(number=picks, minutes=st.integers(0, 100))
    def extend(self, number: int, minutes: int) -> None:
        held, claim = self.pick(number, remove=False)
        if held:
            self.model.extend(claim.id, minutes * 60_000_000)
            claim.extend(timedelta(minutes=minutes))
        else:
            with pytest.raises(ClaimLost):
                claim.extend(timedelta(minutes=minutes))

    @precondition(lambda self: self.claims)
    @rule(number=picks)
    def drop(self, number: int) -> None:
        held, claim = self.pick(number)
        if held:
            self.model.release(claim.id)
        del claim
        for handle in self.handles:
            handle.retry(ArtifactId.of(b"nobody knows it"))  # any verb gives it back

    @rule(id=ids)
    def die(self, id: ArtifactId) -> None:
        row = self.model.rows.get(id)
        if row is not None and row.state == "preparing":
            row.dead = True
            die(self.cache, id)

    # --- the other verbs ------------------------------------------------------------------------

    @rule(host=hosts, id=ids)
    def need(self, host: int, id: ArtifactId) -> None:
        wanted = self.model.need(id)
        answer = self.handles[host].need(id)
        assert (answer is not None) == wanted
        assert answer is None or answer == self.handles[host].get(id)

    @rule(host=hosts, id=ids)
    def open_file(self, host: int, id: ArtifactId) -> None:
        if self.model.need(id):
            with self.handles[host].open_file(id) as file:
                assert len(file.read()) == self.model.rows[id].size
        else:
            with pytest.raises(LookupError):
                self.handles[host].open_file(id)

    @rule(host=hosts, id=ids)
    def wait(self, host: int, id: ArtifactId) -> None:
        row = self.model.rows.get(id)
        if row is not None and row.state == "preparing" and not self.model.abandoned(row):
            with pytest.raises(WaitTimeout):
                self.handles[host].wait(id, timeout=NOW)
            return
        if row is not None and self.model.abandoned(row):
            self.model.reap(row)
        answer = self.handles[host].wait(id)
        assert (answer and answer.state) == (row and row.state)

    @rule(
        host=hosts,
        id=ids,
        end=st.sampled_from(["publish", "fail", "give up", "interrupt"]),
        size=sizes,
    )
    def get_or_prepare(self, host: int, id: ArtifactId, end: str, size: int) -> None:
        def prepare() -> bytes:
            match end:
                case "publish":
                    return b"x" * size
                case "interrupt":
                    raise Interruption
                case _:
                    raise PrepareError("wrong", kind="wrong", deterministic=end == "give up")

        wanted = self.what_comes_of_preparing(id, end, size)
        try:
            answer: Any = self.handles[host].get_or_prepare(id, prepare, timeout=NOW)
        except (PreparationFailed, WaitTimeout, Interruption) as error:
            answer = error
        assert isinstance(answer, wanted)
        if not isinstance(answer, Interruption | WaitTimeout):
            artifact = answer if isinstance(answer, Artifact) else answer.artifact
            assert artifact == self.handles[host].get(id)

    def what_comes_of_preparing(
        self, id: ArtifactId, end: str, size: int
    ) -> type[Artifact | BaseException]:
        if self.model.need(id):
            return Artifact
        self.tokens += 1
        if not self.model.claim(id, self.tokens):
            failed = self.model.rows[id].state == "failed"
            return PreparationFailed if failed else WaitTimeout
        match end:
            case "publish":
                self.model.publish(id, size)
                return Artifact
            case "interrupt":
                self.model.release(id)
                return Interruption
            case _:
                self.model.fail(id, "wrong", retryable=end == "fail")
                return PreparationFailed

    @rule(host=hosts, id=ids)
    def remove(self, host: int, id: ArtifactId) -> None:
        row = self.model.rows.get(id)
        if row is not None and row.state == "preparing":
            with pytest.raises(ArtifactBusy):
                self.handles[host].remove(id)
        else:
            self.model.rows.pop(id, None)
            assert self.handles[host].remove(id) is (row is not None)

    @rule(host=hosts, id=ids)
    def retry(self, host: int, id: ArtifactId) -> None:
        assert self.handles[host].retry(id) is self.model.retry(id)

    @rule(host=hosts, limit=st.none() | limits, stale=st.none() | stale_times)
    def prune(self, host: int, limit: int | None, stale: timedelta | None) -> None:
        would_go = self.handles[host].prune(cache_limit=limit, min_stale_time=stale, dry_run=True)
        gone = self.handles[host].prune(cache_limit=limit, min_stale_time=stale)
        micros = None if stale is None else stale // MICROSECOND
        assert [artifact.id for artifact in gone] == self.model.prune(limit, micros)
        assert gone == would_go

    @rule(host=hosts, limit=limits, stale=stale_times, hard=st.none() | limits)
    def configure(self, host: int, limit: int, stale: timedelta, hard: int | None) -> None:
        self.handles[host].configure(cache_limit=limit, min_stale_time=stale, hard_limit=hard)
        self.model.cache_limit, self.model.hard_limit = limit, hard
        self.model.min_stale_time = stale // MICROSECOND

    @rule(id=ids, missing=st.booleans())
    def spoil(self, id: ArtifactId, missing: bool) -> None:
        row = self.model.rows.get(id)
        artifact = self.handles[0].get(id)
        if row is None or artifact is None or artifact.path is None:
            return
        row.spoilt = True
        artifact.path.unlink(missing_ok=True)
        if not missing:
            artifact.path.write_bytes(b"y" * 3)

    # --- what is compared -----------------------------------------------------------------------

    @invariant()
    def the_rows_agree(self) -> None:
        stored = {ArtifactId(row["code_hash"], row["prep_hash"]): row for row in rows(self.cache)}
        assert stored.keys() == self.model.rows.keys()
        for named, row in stored.items():
            assert seen(row) == told(self.model.rows[named])

    @invariant()
    def nothing_but_the_files_of_the_prepared_is_there(self) -> None:
        listed = files(self.cache).keys()
        paths = {row["path"]: row for row in rows(self.cache) if row["state"] == "prepared"}
        assert listed <= paths.keys()
        for path in paths.keys() - listed:
            named = ArtifactId(paths[path]["code_hash"], paths[path]["prep_hash"])
            assert self.model.rows[named].spoilt

    @invariant()
    def the_sums_agree(self) -> None:
        kept, summed = usage(self.cache)
        assert kept == summed == (len(self.model.prepared()), self.model.held())
        stats = self.handles[1].stats()
        assert (stats.prepared_count, stats.prepared_bytes) == kept
        assert stats.over_limit is (self.model.held() > self.model.cache_limit)

    @invariant()
    def the_lists_agree(self) -> None:
        listed = [artifact.id for artifact in self.handles[0].artifacts()]
        ready = [named for named, _ in reversed(self.model.prepared())]
        assert listed[: len(ready)] == ready
        assert set(listed) == set(self.model.rows)


def seen(row: dict[str, Any]) -> tuple[Any, ...]:
    """A stored row, as far as the model knows it."""
    names = ("id", "state", "last_time_needed", "size", "num_failures", "last_time_failed")
    return (*(row[name] for name in names), row["error_kind"], row["retry_at"], row["deadline"])


def told(row: Row) -> tuple[Any, ...]:
    """The model's row, in the same order."""
    known = (row.number, row.state, row.needed, row.size, row.failures, row.failed_at)
    return (*known, row.kind, row.retry_at, row.deadline)


TestAgreement = pytest.mark.timeout(900)(Agreement.TestCase)  # shrinking a failure takes a while
TestAgreement.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
