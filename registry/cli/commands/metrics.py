"""How the cache stands, for those who watch many machines."""

from __future__ import annotations

import click

from registry.cli.session import Session, in_session

__all__ = ["metrics"]


@click.command()
@in_session
def metrics(session: Session) -> None:
    """Print how the cache stands, as Prometheus reads it.

    What single processes did (hits, misses, prunes) they tell themselves, by registry.metrics.
    """
    from registry.metrics import of_cache, render

    families = list(of_cache(session.registry.measure()))
    session.write(families, render(families).removesuffix("\n").split("\n"))
