"""The metrics of the cache, for monitoring."""

from __future__ import annotations

import click

from registry.cli.session import Session, in_session

__all__ = ["metrics"]


@click.command()
@in_session
def metrics(session: Session) -> None:
    """Print the metrics of the cache in Prometheus's format.

    The counters of a single process (hits, misses, prunes) are only in that process: see
    registry.metrics.
    """
    from registry.metrics import of_cache, render

    families = list(of_cache(session.registry.measure()))
    session.write(families, render(families).removesuffix("\n").split("\n"))
