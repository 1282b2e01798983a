"""The examples of the documents that are no programs, for they speak of what is there already."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import prometheus_client
from host.backends import deaf
from host.stories import story
from prometheus_client import CollectorRegistry, generate_latest

from registry import AsyncRegistry, Registry
from registry.host import Host

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


async def run(text: str, **names: object) -> None:
    """Run it as in the middle of a coroutine."""
    code = compile(text, "a document", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, names)
    if waiting is not None:
        await waiting


@story
async def test_metrics_are_had_as_their_page_says(hosted, monkeypatch):
    collected = CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", collected)
    async with AsyncRegistry(hosted) as handle, Host(handle, deaf) as host:
        with Registry(hosted) as registry:
            text = "".join(blocks("metrics.md"))
            await run(text, registry=registry, host=host, async_registry=handle)
            families = generate_latest(collected).decode()
    assert "registry_artifacts" in families
    assert "registry_host_jobs_enqueued_total" in families


@story
async def test_a_host_takes_confinements_as_their_page_says(hosted, tmp_path, monkeypatch):
    arithmetic, *_, confined = blocks("backends.md")
    modules, headers, logs = (tmp_path / name for name in ("modules", "headers", "logs"))
    for folder in (modules, headers, logs):
        folder.mkdir()
    for name in ("arithmetic", "my_backend"):
        (modules / f"{name}.py").write_text(arithmetic)
    monkeypatch.syspath_prepend(modules)
    async with AsyncRegistry(hosted) as registry:
        await run(confined, cache=registry, headers=headers, logs=logs)
