"""What is logged: words, and fields that programs can rely on; docs/logging.md names them all."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from support.making import claimed, failed, prepared

from registry import Artifact, ArtifactId, PreparationFailed, Registry
from registry.log import FIELDS

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "logging.md").read_text()
SHARED = {"event", "code_hash", "prep_hash"}
# Of each row of the table: the event, and its fields, which stand in the last cell.
DOCUMENTED = {
    cells[1].strip(" `"): {*re.findall(r"`(\w+)`", cells[4])}
    for cells in (line.split("|") for line in DOCUMENT.splitlines() if line.startswith("| `"))
    if cells[1] != " `event` "
}


def told_in_the_code() -> set[str]:
    calls = (
        node
        for file in (ROOT / "registry").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "about"
    )
    return {call.args[0].value for call in calls}  # type: ignore[attr-defined]


def logging_calls(file: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("info", "warning", "error", "exception", "critical")
        and getattr(node.func.value, "id", "") in ("logger", "_log", "_logger")
    ]


def test_every_event_is_documented_and_every_documented_one_is_told() -> None:
    assert told_in_the_code() == DOCUMENTED.keys()


def test_the_fields_are_those_documented() -> None:
    assert set().union(*DOCUMENTED.values()) | SHARED == set(FIELDS)


def test_every_record_above_debug_has_its_fields() -> None:
    queues = {"prepare_queue.py", "execute_queue.py"}  # of a mistake in our own host
    bare = [
        f"{file.name}:{call.lineno}"
        for file in (ROOT / "registry").rglob("*.py")
        if file.name not in queues
        for call in logging_calls(file)
        if "extra" not in {keyword.arg for keyword in call.keywords}
    ]
    assert bare == []


def event(caplog: pytest.LogCaptureFixture, name: str) -> dict[str, object]:
    """The fields of the one record of an event."""
    (record,) = (it for it in caplog.records if getattr(it, "event", None) == name)
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "registry")


def check(caplog: pytest.LogCaptureFixture, name: str, id: ArtifactId) -> dict[str, object]:
    fields = event(caplog, name)
    assert fields.keys() == SHARED | DOCUMENTED[name]
    assert (fields["code_hash"], fields["prep_hash"]) == (id.code_hash, id.prep_hash)
    return fields


def test_publishing_and_pruning(
    registry: Registry, id: ArtifactId, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(registry, id, size=7)
    assert check(caplog, "prepared", id)["size"] == 7
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    assert check(caplog, "pruned", id)["reason"] == "asked"


def test_failing(registry: Registry, id: ArtifactId, caplog: pytest.LogCaptureFixture) -> None:
    failed(registry, id)
    assert check(caplog, "failed", id)["num_failures"] == 1


def test_a_damaged_file(
    registry: Registry, id: ArtifactId, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = prepared(registry, id)
    assert artifact.path is not None
    artifact.path.unlink()
    assert registry.need(id) is None
    assert check(caplog, "discarded", id)["fault"] == "missing"


def test_waiting_for_another(
    registry: Registry, other: Registry, id: ArtifactId, caplog: pytest.LogCaptureFixture
) -> None:
    claim = claimed(other, id)
    waiting = threading.Event()
    caplog.handler.addFilter(lambda record: waiting.set() or True)
    found: list[Artifact | None] = []
    waiter = threading.Thread(target=lambda: found.append(registry.wait(id)))
    waiter.start()
    assert waiting.wait(30)
    claim.release()
    waiter.join()
    assert found == [None]
    assert check(caplog, "waiting", id)["since"] == claim.artifact.holder.since  # type: ignore[union-attr]


def test_the_example_writes_a_line_of_json(cache: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    use = "from registry import *; Registry({!r}).get_or_prepare(ArtifactId.of(b'x'), lambda: b'y')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{example}\n{use.format(str(cache))}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["level"], line["size"]) == ("prepared", "DEBUG", 1)


def test_an_error_of_several_lines_forges_no_line_of_a_log(
    cache: Path, id: ArtifactId, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare() -> bytes:
        raise ValueError("first\nERROR:root:forged \x1b[31m")

    caplog.set_level(logging.DEBUG, "registry")
    with Registry(cache) as registry, pytest.raises(PreparationFailed):
        registry.get_or_prepare(id, prepare)
    told = [record for record in caplog.records if getattr(record, "event", "") == "failed"]
    assert [record.getMessage().isprintable() for record in told] == [True]
    assert "\n" in told[0].error  # type: ignore[attr-defined]  # the field keeps it as it was
