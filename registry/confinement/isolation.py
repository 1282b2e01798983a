"""By what the jobs of a host can be confined on this machine, and what then holds.

There are five means. Four depend on the kernel, on libraries, and on what we run in, and each is
tried, not assumed. `promises` says for each sentence of the documents whether it holds with them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from registry.confinement import cgroup, landlock, namespaces, seccomp

__all__ = ["Means", "Promise", "available", "describe", "missing", "promises"]


@dataclass(frozen=True, slots=True)
class Means:
    """What confines a job: a release of Landlock or 0, a seccomp filter, namespaces.

    To drop the capabilities of root is possible everywhere. A control group is no confinement, and
    every job has one where it can be made, but what is said of a confined job depends on it too.
    """

    landlock: int = 0
    seccomp: bytes = b""
    namespaces: bool = False
    cgroup: bool = False

    def __bool__(self) -> bool:
        """Whether there is any of the first three."""
        return bool(self.landlock or self.seccomp or self.namespaces)


@dataclass(frozen=True, slots=True)
class Promise:
    """A sentence about what a confined job cannot do, and whether it holds."""

    name: str
    sentence: str
    holds: bool


_SENTENCES: Mapping[str, str] = {
    "files": "opens no file outside of what it is given",
    "attributes": "changes no mode, time or attribute of a file outside its folder",
    "network": "reaches no network",
    "sockets": "makes no socket but a pair that is connected to itself",
    "signals": "signals no process outside",
    "control": "changes no limit or priority of a process outside, and traces none",
    "processes": "sees no process outside, nor its environment",
    "children": "leaves no process behind, however fast it forks",
    "time": "uses no CPU time that is not counted, not even by children that it does not wait for",
    "memory": "leaves no System V memory, semaphore or message queue behind",
    "calls": "calls no io_uring, bpf, mount, keys or clock",
    "privileges": "has no capability, even if it is root",
}


def promises(means: Means) -> tuple[Promise, ...]:
    """Say of each sentence whether it holds by these means."""
    # Root could leave its control group, if it could write there.
    grouped = means.cgroup and bool(means.landlock or means.namespaces)
    holding = {
        # Before the third release a file could be emptied by its name.
        "files": means.landlock >= 3,
        "attributes": means.namespaces,
        "network": means.namespaces or bool(means.seccomp),
        "sockets": bool(means.seccomp),
        "signals": means.namespaces or means.landlock >= 6,
        # A job that can write to /proc can have another process killed first when memory runs out.
        "control": means.namespaces or bool(means.seccomp and means.landlock),
        "processes": means.namespaces,
        "children": means.namespaces or grouped,
        "time": grouped,
        "memory": means.namespaces or bool(means.seccomp),
        "calls": bool(means.seccomp),
        "privileges": True,
    }
    return tuple(Promise(name, sentence, holding[name]) for name, sentence in _SENTENCES.items())


@functools.cache
def available() -> Means:
    """Try what this machine offers; once, for it takes a tenth of a second."""
    return Means(
        landlock.version(),
        b"" if seccomp.why_not() else seccomp.make_filter(),
        not namespaces.why_not(),
        cgroup.can_make(),
    )


def describe(means: Means) -> str:
    """Name the means, for people."""
    named = (
        f"Landlock {means.landlock}" if means.landlock else "no Landlock",
        "seccomp" if means.seccomp else "no seccomp",
        "namespaces" if means.namespaces else "no namespaces",
        "cgroup" if means.cgroup else "no cgroup",
    )
    return ", ".join(named)


def missing(means: Means) -> str:
    """Say what is not refused by these means, and what could be done; nothing if all holds."""
    open_to = [promise.sentence for promise in promises(means) if not promise.holds]
    if not open_to:
        return ""
    reasons = "; ".join(_reasons(means))
    return f"NOT held: that a confined job {', '.join(open_to)} ({reasons})"


def _reasons(means: Means) -> list[str]:
    reasons = []
    if means.landlock < 6:
        reasons.append("Landlock 6 and all before it are in Linux 6.12, with lsm=landlock")
    if not means.seccomp:
        reasons.append(seccomp.why_not() or "no seccomp filter")
    if not means.namespaces:
        reasons.append(namespaces.why_not() or "no namespaces")
    if not means.cgroup:
        reasons.append("no control group can be made: it takes root, or `Delegate=yes` of systemd")
    return reasons
