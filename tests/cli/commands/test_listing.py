"""`ls` and `show`: what is there, for people and for programs."""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime

import pytest
from support.artifacts import failed, prepared
from support.command import Command, Run
from support.terminal import terminal

from registry import Artifact, ArtifactId, Registry


def test_a_new_cache_holds_nothing(command: Command, registry: Registry) -> None:
    assert command("ls", "--json").document == []
    answer = command("ls")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_the_members_of_an_artifact_are_its_fields_with_the_id_split(
    command: Command, registry: Registry
) -> None:
    artifact = prepared(registry, "one")
    (listed,) = command("ls", "--json").document
    names = [field.name for field in dataclasses.fields(Artifact) if field.name != "id"]
    assert list(listed) == ["code_hash", "prep_hash", *names]
    assert ArtifactId(listed["code_hash"], listed["prep_hash"]) == artifact.id
    assert (listed["state"], listed["path"]) == ("prepared", str(artifact.path))
    assert listed["size"] == os.stat(listed["path"]).st_size == len(b"compiled")
    assert listed["last_time_needed"].endswith("Z")
    assert datetime.fromisoformat(listed["last_time_needed"]) == artifact.last_time_needed
    assert listed["prepare_seconds"] == artifact.prepare_seconds


def test_the_most_recently_needed_comes_first_and_the_failed_last(
    run: Run, registry: Registry
) -> None:
    for name in ("first", "second", "third"):
        prepared(registry, name)
    failed(registry, "broken")
    listed = run("ls", "--json").document
    assert [item["label"] for item in listed] == ["third", "second", "first", "broken"]


def test_one_state_can_be_asked_for(run: Run, registry: Registry) -> None:
    prepared(registry, "one")
    failed(registry, "broken")
    (listed,) = run("ls", "--state", "failed", "--json").document
    assert listed["label"] == "broken"
    assert run("ls", "--state", "preparing", "--json").document == []


def test_people_get_a_line_for_each_artifact(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one", data=bytes(2048))
    failed(registry, "broken")
    title, *lines = run("ls").out.splitlines()
    assert title.split() == ["ID", "STATE", "SIZE", "NEEDED", "LABEL"]
    one, broken = (line.split() for line in lines)
    assert one[:4] == [artifact.id.short, "prepared", "2.0", "KiB"]
    assert one[-1] == "one"
    assert broken[1:] == ["failed", "-", "-", "broken"]


def test_a_label_can_neither_forge_a_line_nor_drive_the_terminal(
    run: Run, registry: Registry
) -> None:
    artifact = prepared(registry, "one", label="\x1b[2Jharm\nless\N{RIGHT-TO-LEFT OVERRIDE}")
    _, line = run("ls").out.splitlines()
    assert line.endswith(r"\x1b[2Jharm\nless\u202e")
    (listed,) = run("ls", "--json").document
    assert listed["label"] == artifact.label


def test_a_terminal_without_the_letters_still_gets_its_list(
    command: Command, registry: Registry
) -> None:
    prepared(registry, "one", label="Ωmega")
    answer = command("ls", PYTHONIOENCODING="ascii")
    assert answer.out.splitlines()[1].endswith(r"\u03a9mega")


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_has_colours_where_it_can_and_they_are_wanted(
    command: Command, registry: Registry, environment: dict[str, str], coloured: bool
) -> None:
    failed(registry, "broken")
    with terminal(command, 100, "ls", **environment) as screen:
        assert ("\x1b[31mfailed" in screen.read_to_the_end()) == coloured
    with terminal(command, 100, "show", "nothing", **environment) as screen:
        assert ("\x1b[31merror:" in screen.read_to_the_end()) == coloured


def test_an_artifact_is_shown_by_the_beginning_of_its_id(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one")
    (listed,) = run("ls", "--json").document
    for prefix in (str(artifact.id)[0], artifact.id.short, artifact.id.code_hash, str(artifact.id)):
        assert run("show", prefix, "--json").document == listed


def test_people_are_shown_what_is_known_and_nothing_else(run: Run, registry: Registry) -> None:
    artifact = prepared(registry, "one", data=bytes(3000))
    out = run("show", artifact.id.short).out
    assert artifact.id.code_hash in out
    assert artifact.id.prep_hash in out
    assert f"path              {artifact.path}\n" in out
    assert "2.9 KiB (3000B)" in out
    assert "error" not in out
    assert "None" not in out


def test_people_are_shown_why_something_failed_and_what_to_do(run: Run, registry: Registry) -> None:
    artifact = failed(registry, "broken", error="line one\nline two")
    out = run("show", artifact.id.short).out
    assert f"line one\n{'':<18}line two\n" in out
    assert "registry retry" in out


def test_people_are_shown_who_prepares_something(run: Run, registry: Registry) -> None:
    slow = ArtifactId.of(b"slow")
    with registry.claim(slow):
        holder = run("show", slow.short, "--json").document["holder"]
        out = run("show", slow.short).out
    assert holder["since"].endswith("Z")
    assert f"prepared by       host {holder['host_id']}" in out


def test_a_prefix_that_matches_nothing_or_too_much_is_a_failure(
    run: Run, registry: Registry
) -> None:
    unknown = run("show", "abcdef", "--json")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.error["type"] == "UnknownArtifact"
    ids = [prepared(registry, str(number)).id for number in range(17)]
    # There are 16 digits, so two of them start alike.
    firsts = [each.code_hash[0] for each in ids]
    twice = next(digit for digit in firsts if firsts.count(digit) > 1)
    ambiguous = run("show", twice, "--json")
    assert (ambiguous.code, ambiguous.error["type"]) == (1, "AmbiguousPrefix")


def test_a_list_can_be_ordered_limited_and_filtered_by_label(run: Run, registry: Registry) -> None:
    for name, size in (("b.wasm", 10), ("a.wasm", 30), ("c.other", 20)):
        prepared(registry, name, data=bytes(size))

    def labels(*options: str) -> list[str]:
        return [item["label"] for item in run("ls", "--json", *options).document]

    assert labels("--sort", "size") == ["a.wasm", "c.other", "b.wasm"]
    assert labels("--sort", "label", "--limit", "2") == ["a.wasm", "b.wasm"]
    assert labels("--label", ".wasm") == ["a.wasm", "b.wasm"]
    assert labels("--label", "nothing") == []
    for wrong in (("--limit", "0"), ("--limit", "x"), ("--sort", "colour")):
        assert run("ls", *wrong).code == 2


def test_a_person_is_told_the_total_or_that_there_is_nothing(
    command: Command, registry: Registry
) -> None:
    with terminal(command, 100, "ls") as screen:
        assert "no artifacts" in screen.read_to_the_end()
    prepared(registry, "one", data=bytes(2048))
    prepared(registry, "two", data=bytes(1024))
    with terminal(command, 100, "ls") as screen:
        assert "artifacts: 2, 3.0 KiB" in screen.read_to_the_end()
    assert command("ls").err == ""


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_a_list_fits_its_terminal(command: Command, registry: Registry, width: int) -> None:
    artifact = prepared(registry, "one", label="a label of many words, " * 12 + "end")
    with terminal(command, width, "ls", COLUMNS=str(width), TERM="dumb") as screen:
        title, line, *_ = screen.read_to_the_end().splitlines()
    assert title.split() == ["ID", "STATE", "SIZE", "NEEDED", "LABEL"]
    assert len(line) <= max(width, 60)
    assert len(line) >= width - 3
    assert "a label" in line
    assert registry.find(line.split()[0]) == artifact.id
    assert command("ls").out.endswith(f"{artifact.label}\n")  # a pipe gets all of it
