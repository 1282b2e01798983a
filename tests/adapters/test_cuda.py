"""cuda.core itself, which compiles without a GPU: each program compiled once per machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from processes.traces import assert_clean
from support.environments import Environment, environment

from registry import cuda

USER = Path(__file__).parent / "cuda_user.py"


@pytest.fixture
def framework(tmp_path: Path) -> Environment:
    return environment(tmp_path, "cuda-core>=1.2", "cuda-bindings>=13", "nvidia-cuda-nvrtc>=13")


def result(printed: str) -> list[int]:
    return [int(it) for it in printed.strip().splitlines()[-1].split()[1:]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_processes_that_start_at_once_compile_each_program_once(
    framework: Environment, cache: Path
) -> None:
    done = [result(it) for it in framework.run_at_once(4, USER, "wait", REGISTRY_CACHE=str(cache))]

    assert sum(compiled for compiled, *_ in done) == 4
    assert len(assert_clean(cache)) == 4
    assert result(framework.run(USER, REGISTRY_CACHE=str(cache))) == [0, *done[0][1:]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_a_mapping_as_cuda_core_says_and_failures_are_its_own(
    framework: Environment, cache: Path
) -> None:
    printed = framework.run(USER, "mapping", "fails", REGISTRY_CACHE=str(cache))

    assert "failed as ever: NVRTCError" in printed
    assert len(assert_clean(cache)) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_usable_cache_it_compiles_and_warns_once(
    framework: Environment, cache: Path
) -> None:
    cache.write_bytes(b"no directory")

    printed = framework.run(USER, REGISTRY_CACHE=str(cache))

    assert result(printed)[0] == 5
    assert printed.count("compiles without the cache") == 1


@pytest.mark.skipif(importlib.util.find_spec("cuda") is not None, reason="cuda.core is there")
def test_without_cuda_core_it_says_what_is_missing() -> None:
    with pytest.raises(ImportError, match="pip install cuda-core"):
        cuda.ProgramCache()
