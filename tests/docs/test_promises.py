"""Every promise names a test that is there, and every figure a file that makes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("promises.md", "reliability.md")]
NAMED = re.compile(r"\b(tests/[\w/]+\.py)(?:::(\w+))?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_named_test_is_there(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert named
    for file, function in named:
        source = (ROOT / file).read_text()
        assert not function or re.search(rf"^ *(async )?def {function}\(", source, re.MULTILINE), (
            f"{file}::{function}"
        )


def test_each_promise_names_one() -> None:
    table = PAGES[0].read_text().partition("| --- | --- |\n")[2].partition("\n\n")[0]
    promises = table.splitlines()
    assert len(promises) > 20
    assert all(NAMED.search(promise) for promise in promises)
