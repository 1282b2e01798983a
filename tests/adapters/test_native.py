"""The recipes for CFFI, pybind11 and Cython, with these as they install."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from processes.traces import assert_clean
from support.environments import environment

RECIPES = Path(__file__).parent / "native_recipes.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_each_recipe_builds_a_module_once_and_a_later_process_uses_it(
    tmp_path: Path, cache: Path
) -> None:
    packages = environment(tmp_path, "cffi>=2", "pybind11", "cython", "setuptools")
    work = tmp_path / "work"
    work.mkdir()

    first = packages.run(RECIPES, str(work), str(cache))
    made = {it.id: it.last_time_needed for it in assert_clean(cache)}
    again = packages.run(RECIPES, str(work), str(cache))

    for printed in (first, again):
        told = [line.split()[:2] for line in printed.splitlines() if "with_" in line]
        assert told == [["with_cffi", "5"], ["with_pybind11", "5"], ["with_cython", "5"]]
    assert {it.id for it in assert_clean(cache)} == set(made)
    assert len(made) == 3
