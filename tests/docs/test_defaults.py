"""The defaults that the documents name are those of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Settings
from registry.cli.units import near_size

ROOT = Path(__file__).parents[2]
DEFAULTS = Settings()
HOURS = DEFAULTS.min_stale_time.total_seconds() / 3600
MINUTES = DEFAULTS.retry_cooldown.total_seconds() / 60
NUMBERS = {5: "five"}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("README.md", f"`cache_limit` ({near_size(DEFAULTS.cache_limit).replace('.0', '')})"),
        ("README.md", f"`min_stale_time` ({HOURS:.0f} h)"),
        ("README.md", f"tried again after {MINUTES:.0f} minutes"),
        ("README.md", f"at most {NUMBERS[DEFAULTS.max_retries]} times"),
        ("docs/promises.md", f"after {MINUTES:.0f} minutes, {NUMBERS[DEFAULTS.max_retries]} times"),
        ("docs/tutorial.md", f"holds {near_size(DEFAULTS.cache_limit).replace('.0', '')}"),
    ],
)
def test_a_page_names_the_default_that_holds(page: str, words: str) -> None:
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert words in text
