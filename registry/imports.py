"""Import early what is otherwise imported when it is first needed."""

from __future__ import annotations

from registry.opening import migrate

__all__ = ["preload"]


def preload() -> None:
    """Import now what any verb needs, so that processes forked from this one import nothing.

    Call it where a server loads the application before it forks: after the fork, the first call of
    a verb of `Registry`, `AsyncRegistry` or a function under `@prepared` imports no module, even
    if it creates or migrates the cache. It takes about a second, opens no cache and no file, and
    starts no thread. NOT included are the extras: import `registry.metrics` yourself, and call
    `registry.wasm.preload()` for WebAssembly.
    """
    import multiprocessing.util  # noqa: F401 - a process that multiprocessing started needs it
    import pwd  # noqa: F401 - finds the home of a user without $HOME
    import shlex  # noqa: F401 - words a refusal
    from importlib import metadata  # noqa: F401 - identifies a decorated function

    import registry.aio
    import registry.decorator
    import registry.sync
    import registry.verbs.diagnosis
    import registry.verbs.stats  # noqa: F401

    migrate.upgrade(":memory:")  # Alembic imports parts of itself only while it works
