"""What a person does once is counted once, as a hit or as a miss."""

from __future__ import annotations

import pytest
from support.command import Command

ADD = '(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@pytest.mark.parametrize(
    "verb",
    [
        ["prepare", "add.wat"],
        ["run", "add.wat", "--invoke", "add", "1", "2"],
        ["run", "--isolate", "add.wat", "--invoke", "add", "1", "2"],
    ],
    ids=["prepare", "run", "run --isolate"],
)
def test_what_is_done_twice_is_a_miss_and_a_hit(verb: list[str], command: Command) -> None:
    (command.home / "add.wat").write_text(ADD)
    for _ in range(2):
        assert command(*verb).code == 0
    totals = command("stats", "--json").document["totals"]
    assert (totals["misses"], totals["hits"], totals["published"]) == (1, 1, 1)
