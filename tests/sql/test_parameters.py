"""One thing has one name: what a statement writes into a column has the name of the column."""

from __future__ import annotations

import re

from registry.sql.sqlite import SQLITE


def test_no_parameter_has_a_second_name_for_a_column() -> None:
    asked = {name for each in SQLITE.values() for name in re.findall(r":(\w+)", each.sql)}
    assert {"label", "checksum", "error", "size"} <= asked
    assert not {"called", "digest", "why", "bytes"} & asked
