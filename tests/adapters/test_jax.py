"""JAX itself, in its oldest and its newest release: each executable compiled once per machine."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from processes.traces import assert_clean
from support.environments import Environment, environment

from registry import Registry, jax

USER = Path(__file__).parent / "jax_user.py"
ROOT = Path(__file__).parents[2]
INSTALLED = "Metadata-Version: 2.1\nName: compile-registry\nVersion: 0\n"
ON = {"REGISTRY_JAX": "1", "JAX_PLATFORMS": "cpu"}


@pytest.fixture(params=["jax==0.6.0", "jax>=0.10"], ids=["oldest", "newest"])
def framework(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    """An environment in which our entry points are those of pyproject.toml."""
    made = environment(tmp_path, request.param)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (group,) = [it for name, it in project["entry-points"].items() if name == "jax_plugins"]
    told = tmp_path / "under-test" / "compile_registry-0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(INSTALLED)
    lines = [f"{name} = {value}" for name, value in group.items()]
    (told / "entry_points.txt").write_text("\n".join(["[jax_plugins]", *lines, ""]))
    return made


def result(printed: str) -> tuple[int, str]:
    _, compiled, value = printed.strip().splitlines()[-1].split()
    return int(compiled), value


def labels(cache: Path) -> list[str]:
    return sorted(str(it.label).split("-")[0] for it in assert_clean(cache))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_processes_that_start_at_once_compile_each_executable_once(
    framework: Environment, cache: Path, tmp_path: Path
) -> None:
    variables = {"REGISTRY_CACHE": str(cache), **ON}
    done = [result(it) for it in framework.run_at_once(4, USER, "wait", **variables)]

    kept = labels(cache)
    assert "jax jit_heavy" in kept
    assert sum(compiled for compiled, _ in done) == len(kept)
    assert len({value for _, value in done}) == 1
    assert result(framework.run(USER, **variables)) == (0, done[0][1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_entries_are_compiled_again_and_stored(framework: Environment, cache: Path) -> None:
    variables = {"REGISTRY_CACHE": str(cache), **ON}
    first = result(framework.run(USER, **variables))
    for number, file in enumerate(sorted((cache / "artifacts").iterdir())):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if number % 2 else b"\x00" + data[1:])

    assert result(framework.run(USER, **variables)) == first
    assert result(framework.run(USER, **variables)) == (0, first[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_entry_that_jax_cannot_load_is_replaced(framework: Environment, cache: Path) -> None:
    variables = {"REGISTRY_CACHE": str(cache), **ON}
    first = result(framework.run(USER, **variables))
    with Registry(cache) as registry:
        for artifact in list(registry.artifacts()):
            registry.remove(artifact.id)
            registry.get_or_prepare(artifact.id, lambda: b"whole, and not JAX's")

    assert result(framework.run(USER, **variables)) == first
    assert result(framework.run(USER, **variables)) == (0, first[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_usable_cache_jax_compiles_and_warns_once(
    framework: Environment, cache: Path
) -> None:
    cache.write_bytes(b"no directory")

    printed = framework.run(USER, REGISTRY_CACHE=str(cache), **ON)

    assert result(printed)[0] > 0
    assert printed.count("compiles without the cache") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_callbacks_failures_and_the_switch(framework: Environment, cache: Path) -> None:
    variables = {"REGISTRY_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    framework.run(USER, **variables)
    framework.run(USER, REGISTRY_JAX="0", **variables)
    assert not cache.exists()

    printed = framework.run(USER, "callback", "fails", REGISTRY_JAX="1", **variables)

    assert "failed as ever" in printed
    assert "jax jit_heavy" in labels(cache)
    assert "jax jit_called" not in labels(cache)


def test_without_jax_it_says_so_and_does_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_JAX", raising=False)
    jax.initialize()
    assert caplog.records == []

    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    monkeypatch.setenv("REGISTRY_JAX", "1")
    jax.initialize()
    assert [record.event for record in caplog.records] == ["jax_failed"]  # type: ignore[attr-defined]
