"""What people do with a registry: every public verb, begun with arguments that a number chooses.

A user here reads whatever he is given, and complains if it is not what he asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from registry import Artifact, ArtifactId, CleanupConfig, PrepareError, RetryPolicy, State, hot_path
from registry.effects import Verb
from registry.verbs import claim as claim_verb
from registry.verbs import hosts, listing, maintenance
from registry.verbs import need as need_verb
from registry.verbs import prepare as prepare_verb
from registry.verbs import publish as publish_verb
from registry.verbs import wait as wait_verb
from registry.verbs.handle import Lease

from .content import maker, prepared_bytes
from .host import Clock, Host
from .invariants import Promise, Violation
from .machine import Machine, OnEnd
from .task import Ended

__all__ = ["CLEANUPS", "RETRIES", "VERBS", "Users"]

EVERYTHING = listing.wanted(None, None, None)
SECOND = timedelta(seconds=1)
TIMEOUTS = (None, SECOND, timedelta(hours=1))
CLEANUPS = (
    None,
    CleanupConfig(cache_limit=500, min_stale_time=timedelta(0)),
    CleanupConfig(cache_limit=0, min_stale_time=SECOND),
)
RETRIES = (None, RetryPolicy(max_retries=1, cooldown=timedelta(0)), RetryPolicy(max_retries=0))
SETTINGS: tuple[dict[str, Any], ...] = (
    {"cache_limit": 300, "min_stale_time": timedelta(0)},
    {"cache_limit": 10_000, "hard_limit": 900},
    {"min_stale_time": SECOND, "hard_limit": None},
    {"failed_max_count": 1, "failed_max_age": timedelta(days=1)},
    {"failed_max_bytes": 10, "failed_max_count": 2},
    {"max_retries": 2, "retry_cooldown": timedelta(0), "prepare_timeout": 10 * SECOND},
)


class Users:
    """Begin verbs on the hosts of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._made = 0

    def begin(self, verb: str, host: Host, id: ArtifactId, n: int) -> None:
        """Begin a verb, if this host can do that now; `n` chooses its other arguments."""
        if host.usable:
            VERBS[verb](self, host, id, n)

    # --- claims ---------------------------------------------------------------------------------

    def claim(self, host: Host, id: ArtifactId, n: int) -> None:
        def hold(ended: Ended) -> None:
            if isinstance(ended.value, Lease):
                host.leases.append(ended.value)

        verb = claim_verb.claim(host.handle, id, TIMEOUTS[n % 3], f"label {n}")
        self.machine.begin("claim", host, verb, hold)

    def publish(self, host: Host, _: ArtifactId, n: int) -> None:
        lease = self._idle(host, n)
        if lease is not None:
            data = self.prepare(host, lease.id)
            given = data if n % 3 else self._source(data)
            verb = publish_verb.publish(host.handle, lease, given)
            self.machine.begin("publish", host, verb, self._got(lease.id), lease)

    def fail(self, host: Host, _: ArtifactId, n: int) -> None:
        lease = self._idle(host, n)
        if lease is not None:
            verb = publish_verb.fail(host.handle, lease, f"error {n}", "test", n % 2 == 0)
            self.machine.begin("fail", host, verb, lease=lease)

    def release(self, host: Host, _: ArtifactId, n: int) -> None:
        lease = self._idle(host, n)
        if lease is not None:
            self.machine.begin(
                "release", host, publish_verb.release(host.handle, lease), lease=lease
            )

    def extend(self, host: Host, _: ArtifactId, n: int) -> None:
        lease = self._idle(host, n)
        if lease is not None:
            verb = publish_verb.extend(host.handle, lease, (n % 3) * SECOND)
            self.machine.begin("extend", host, verb, lease=lease)

    def drop(self, host: Host, _: ArtifactId, n: int) -> None:
        """Forget a claim without a word, as a careless user does."""
        lease = self._idle(host, n)
        if lease is not None:
            self.machine.note(f"{host.name} drops a claim")
            host.leases.remove(lease)

    # --- needing --------------------------------------------------------------------------------

    def need(self, host: Host, id: ArtifactId, n: int) -> None:
        with _frozen(self.machine.clock):
            ready = hot_path.hot_artifact(host.handle, id)
        if ready is not None:
            self.machine.note(f"{host.name} has it hot")
            self._got(id)(Ended(ready))
            return
        self.machine.begin("need", host, need_verb.need(host.handle, id), self._got(id))

    def open_file(self, host: Host, id: ArtifactId, n: int) -> None:
        began = self.machine.steps

        def read(ended: Ended) -> None:
            if ended.value is not None:
                with ended.value as file:
                    data = file.read()
                if began >= max(self.machine.harmed.values(), default=0):
                    _require_right(id, data)

        self.machine.begin("open_file", host, need_verb.open_file(host.handle, id), read)

    def get_or_prepare(self, host: Host, id: ArtifactId, n: int) -> None:
        def prepare() -> bytes | Path:
            match n % 6:
                case 0:
                    raise ValueError("a failure that may be tried again")
                case 1:
                    raise PrepareError("a failure that may not")
                case 2:
                    return b""
                case 3:
                    return self._source(self.prepare(host, id))
            return self.prepare(host, id)

        span = (n % 5) * SECOND
        verb = prepare_verb.get_or_prepare(host.handle, id, prepare, span)
        self.machine.begin("get_or_prepare", host, verb, self._got(id))

    def wait(self, host: Host, id: ArtifactId, n: int) -> None:
        def settled(ended: Ended) -> None:
            if isinstance(ended.value, Artifact) and ended.value.state is State.PREPARING:
                raise Violation(Promise.DOCUMENTED, f"waited for {id}, and it is still preparing")

        self.machine.begin("wait", host, wait_verb.wait(host.handle, id, n % 3 * SECOND), settled)

    # --- the cache ------------------------------------------------------------------------------

    def prune(self, host: Host, _: ArtifactId, n: int) -> None:
        limit, stale = (None, 0, 400)[n % 3], (None, timedelta(0))[n % 2]
        verb = maintenance.prune(host.handle, limit, stale, dry_run=n % 7 == 0)
        self.machine.begin("prune", host, verb)

    def check(self, host: Host, _: ArtifactId, n: int) -> None:
        verb = maintenance.check(host.handle, repair=n % 3 > 0, checksums=n % 2 > 0)
        self.machine.begin("check", host, verb)

    def configure(self, host: Host, _: ArtifactId, n: int) -> None:
        verb = listing.configure(host.handle, SETTINGS[n % len(SETTINGS)])
        self.machine.begin("configure", host, verb)

    def close(self, host: Host, _: ArtifactId, n: int) -> None:
        if not self.machine.busy(host):
            self.machine.close_host(host, maintenance.close(host.handle))

    # --- words ----------------------------------------------------------------------------------

    def prepare(self, host: Host, id: ArtifactId) -> bytes:
        """Prepare an artifact: bytes that no other preparation gives."""
        self._made += 1
        return prepared_bytes(id, host.id, self._made)

    def _source(self, data: bytes) -> Path:
        path = self.machine.witness.cache.parent / f"source{self._made}"
        path.write_bytes(data)
        return path

    def _idle(self, host: Host, n: int) -> Lease | None:
        at_work = [task.lease for task in self.machine.tasks if task.lease is not None]
        idle = [lease for lease in host.leases if lease not in at_work]
        return idle[n % len(idle)] if idle else None

    def _got(self, id: ArtifactId) -> OnEnd:
        """Read what is answered; what was damaged or unlinked since the verb began may be so."""
        began, machine = self.machine.steps, self.machine

        def read(ended: Ended) -> None:
            if not isinstance(ended.value, Artifact) or ended.value.path is None:
                return
            name = ended.value.path.name
            if max(machine.harmed.get(name, -1), machine.unlinked.get(name, -1)) <= began:
                _require_right(id, machine.witness.world.files.get(name))

        return read


def _plain(name: str, make: Callable[[Host, ArtifactId], Verb[Any]]) -> Callable[..., None]:
    def begin(users: Users, host: Host, id: ArtifactId, n: int) -> None:
        users.machine.begin(name, host, make(host, id))

    return begin


def _frozen(clock: Clock) -> Any:
    """Let the hot path, which is plain code, see the simulated time."""
    return patch("time.time_ns", lambda: clock.wall * 1000)


def _require_right(id: ArtifactId, data: bytes | None) -> None:
    if data is None or maker(data)[0] != str(id):
        raise Violation(Promise.HAS_ITS_FILE, f"a user who asked for {id} was given {data!r}")


VERBS: dict[str, Callable[[Users, Host, ArtifactId, int], None]] = {
    "claim": Users.claim,
    "publish": Users.publish,
    "fail": Users.fail,
    "release": Users.release,
    "extend": Users.extend,
    "drop": Users.drop,
    "need": Users.need,
    "open_file": Users.open_file,
    "get_or_prepare": Users.get_or_prepare,
    "wait": Users.wait,
    "prune": Users.prune,
    "check": Users.check,
    "configure": Users.configure,
    "close": Users.close,
    "get": _plain("get", lambda host, this: listing.get(host.handle, this)),
    "remove": _plain("remove", lambda host, this: listing.remove(host.handle, this)),
    "retry": _plain("retry", lambda host, this: listing.retry(host.handle, this)),
    "find": _plain("find", lambda host, this: listing.find(host.handle, this.code_hash[:8])),
    "stats": _plain("stats", lambda host, _: listing.stats(host.handle)),
    "settings": _plain("settings", lambda host, _: listing.settings(host.handle)),
    "hosts": _plain("hosts", lambda host, _: hosts.hosts(host.handle)),
    "maintain": _plain("maintain", lambda host, _: maintenance.pulse(host.handle)),
    "artifacts": _plain(
        "artifacts",
        lambda host, _: listing.page(host.handle, EVERYTHING, listing.start(EVERYTHING)),
    ),
}
