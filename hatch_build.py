"""Fill in, when it is built, where the project lives: `REPOSITORY_URL=https://... python -m build`.

Relative links lead nowhere on a package index, so with an address they become absolute, and the
project's URLs are set. A workflow of GitHub's says the address itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)]+)\)")


def address() -> str | None:
    """Where the repository is, if anyone said so."""
    given = os.environ.get("REPOSITORY_URL")
    server, name = (os.environ.get(f"GITHUB_{it}") for it in ("SERVER_URL", "REPOSITORY"))
    return (given or (f"{server}/{name}" if server and name else "")).rstrip("/") or None


def absolute(text: str, repository: str) -> str:
    """The text with links that work anywhere."""
    kinds = {"!": "raw", "": "blob"}
    return RELATIVE.sub(
        lambda it: f"{it[1]}{it[2]}({repository}/{kinds[it[1]]}/main/{it[3]})", text
    )


def urls(repository: str) -> dict[str, str]:
    """The links beside the project's description."""
    return {
        "Repository": repository,
        "Documentation": f"{repository}/tree/main/docs",
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }


class CustomMetadataHook(MetadataHookInterface):
    """The fields that `pyproject.toml` calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text, repository = (Path(self.root) / "README.md").read_text("utf-8"), address()
        if repository is not None:
            text = absolute(text, repository)
            metadata["urls"] = urls(repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
