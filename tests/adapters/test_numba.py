"""Numba itself, in its oldest and its newest release: each function compiled once per machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes.traces import assert_clean
from support.environments import Environment, environment

from registry import Registry
from registry.numba.fingerprint import NoFingerprint, depends_on
from registry.numba.signature import canonical

HERE = Path(__file__).parent
# total, for two types, and twice; parallel_total, exact, fast, in_no_file
COMPILED = 7
STORED = COMPILED + 4  # the ufunc, the gufunc and its wrapper, the callback
ANSWERS = "101 106.0 4.0 6.0 6.0 3.0 [2.0, 2.0, 2.0, 2.0] 2.0 6"

pytestmark = [pytest.mark.timeout(900)]


@pytest.fixture(params=["numba==0.62.0", "numba>=0.68"], ids=["oldest", "newest"])
def numba(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    return environment(tmp_path, request.param)


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A program in a folder of its own, in which Numba may write."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "numba_constants.py").write_text("SHIFT = 1\n")
    return Path(shutil.copy(HERE / "numba_user.py", folder))


def variables(cache: Path) -> dict[str, str]:
    located = {"NUMBA_CACHE_LOCATOR_CLASSES": "registry.numba.Locator"}
    return {"REGISTRY_CACHE": str(cache), "NUMBA_NUM_THREADS": "2", **located}


def result(printed: str) -> tuple[int, str]:
    words = printed.strip().splitlines()[-1].split(maxsplit=2)
    assert words[0] == "compiled", printed
    return int(words[1]), words[2]


@pytest.mark.slow
def test_processes_that_start_at_once_compile_each_function_once(
    numba: Environment, cache: Path, user: Path
) -> None:
    done = [result(it) for it in numba.run_at_once(4, user, "5", "wait", **variables(cache))]

    assert {answers for _, answers in done} == {ANSWERS}
    with Registry(cache) as registry:
        events = [it.event for it in registry.events()]
    assert events.count("published") == STORED
    assert sum(compiled for compiled, _ in done) == COMPILED
    assert len(assert_clean(cache)) == STORED
    assert not list(user.parent.rglob("*.nbi"))
    assert result(numba.run(user, "5", **variables(cache))) == (0, ANSWERS)


@pytest.mark.slow
def test_what_a_function_uses_is_noticed(numba: Environment, cache: Path, user: Path) -> None:
    numba.run(user, "5", **variables(cache))

    other = result(numba.run(user, "6", **variables(cache)))
    (user.parent / "numba_constants.py").write_text("SHIFT = 20  # longer\n")
    shifted = result(numba.run(user, "6", **variables(cache)))

    assert other == (1, ANSWERS[:-1] + "7")  # a constant of a function in no file
    assert shifted == (2, ANSWERS[:-1].replace("101 106.0", "120 125.0") + "7")


@pytest.mark.slow
def test_whatever_is_damaged_or_gone_is_compiled_again(
    numba: Environment, cache: Path, user: Path
) -> None:
    numba.run(user, "5", **variables(cache))
    for number, file in enumerate(sorted((cache / "artifacts").iterdir())):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if number % 2 else data[:50] + b"?" + data[51:])
    assert result(numba.run(user, "5", **variables(cache))) == (COMPILED, ANSWERS)

    with Registry(cache) as registry:  # evicted apart: what Numba's own cache ends in SIGSEGV for
        gone = [it.id for it in registry.artifacts() if it.label == "numba shifted"]
        registry.remove(gone[0])
    assert result(numba.run(user, "5", **variables(cache)))[1] == ANSWERS
    with Registry(cache) as registry:
        registry.remove(gone[1])
    assert result(numba.run(user, "5", **variables(cache)))[1] == ANSWERS


@pytest.mark.slow
def test_without_a_usable_cache_numba_compiles_and_warns_once(
    numba: Environment, cache: Path, user: Path
) -> None:
    cache.write_bytes(b"no directory")

    printed = numba.run(user, "5", **variables(cache))

    assert result(printed) == (COMPILED, ANSWERS)
    assert printed.count("compiles without the cache") == 1


LOCAL = """
from numba import float64, njit
from numba.experimental import jitclass

@jitclass([("x", float64)])
class Point:
    def __init__(self, x):
        self.x = x

@njit(cache=True)
def x_of(point):
    return point.x

@njit(cache=True)
def applied(function, x):
    return function(x)

@njit
def double(x):
    return x * 2

print(x_of(Point(1.0)), applied(double, 3))
"""


@pytest.mark.slow
def test_types_that_only_one_process_knows_are_left_to_numba(
    numba: Environment, cache: Path, tmp_path: Path
) -> None:
    script = tmp_path / "local.py"
    script.write_text(LOCAL)
    for _ in range(2):
        assert numba.run(script, **variables(cache)).splitlines()[-1] == "1.0 6"
    assert list((tmp_path / "__pycache__").glob("local.x_of-*.nbi"))
    with Registry(cache) as registry:
        assert list(registry.artifacts()) == []


# Numba's own tests that look at what only its own cache has.
COUNT_FILES = {
    "TestCFuncCache.test_caching",
    "TestCache.test_caching",
    "TestCache.test_caching_nrt_pruned",
    "TestCache.test_closure",
    "TestCache.test_first_class_function",
    "TestCache.test_inner_then_outer",
    "TestCache.test_nbi_reproducible_after_touch",
    "TestCache.test_outer_then_inner",
    "TestCacheWithCpuSetting.test_user_set_cpu_features",
    "TestCacheWithCpuSetting.test_user_set_cpu_name",
    "TestGUfuncCacheTest.test_filename_prefix",
    "TestSequentialParForsCache.test_caching",
}
READ_THE_INDEX = {
    "TestCacheFileCollision.test_file_location",
    "TestCacheFileCollision.test_no_collision",
}
NAME_ANOTHER_LOCATOR = {"TestCacheLocatorEnvironmentIntegration.test_default_locators"}
WANT_AN_OLD_GLOBAL = {"TestCache.test_recompile"}  # changed since, which is noticed here


@pytest.mark.slow
def test_numbas_own_tests_of_its_cache_hold(cache: Path, tmp_path: Path) -> None:
    numba = environment(tmp_path, "numba==0.68.1")
    modules = ["numba.tests.test_caching", "numba.tests.npyufunc.test_caching"]
    done = subprocess.run(
        [numba.python, "-m", "numba.runtests", *modules],
        env=numba.variables(**variables(cache)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )

    failed = re.findall(r"^(?:FAIL|ERROR): \w+ \([\w.]*?(\w+\.\w+)\)$", done.stderr, re.MULTILINE)
    known = COUNT_FILES | READ_THE_INDEX | NAME_ANOTHER_LOCATOR | WANT_AN_OLD_GLOBAL
    assert set(failed) <= known, done.stderr
    assert "Ran 58 tests" in done.stderr


@pytest.mark.slow
def test_the_debug_messages_are_numbas(numba: Environment, cache: Path, user: Path) -> None:
    debug = {"NUMBA_DEBUG_CACHE": "1"}
    saved = numba.run(user, "5", **variables(cache), **debug)
    loaded = numba.run(user, "5", **variables(cache), **debug)

    assert saved.count("[cache] data saved to") == STORED
    assert saved.count("[cache] data loaded from") == 0
    assert loaded.count("[cache] data loaded from") == STORED - 1  # `twice` is not asked for


# --- without Numba -------------------------------------------------------------------------------


def made(text: str, **values: object) -> object:
    space: dict[str, object] = dict(values)
    exec(text, space)
    return space["f"]


def test_code_globals_and_closures_are_told_apart() -> None:
    text = "def f(x):\n    return x + N"
    seen = {
        depends_on(made(text, N=1), strict=True),
        depends_on(made(text, N=1.0), strict=True),
        depends_on(made(text, N=True), strict=True),
        depends_on(made(text, N=(1, 2)), strict=True),
        depends_on(made(text.replace("+", "-"), N=1), strict=True),
        depends_on(made("def f(x):\n    return x + g(x)\ndef g(x): return 1"), strict=True),
        depends_on(made("def f(x):\n    return x + g(x)\ndef g(x): return 2"), strict=True),
        depends_on(made("def h(n):\n  def f(x): return n\n  return f\nf = h(1)"), strict=True),
        depends_on(made("def h(n):\n  def f(x): return n\n  return f\nf = h(2)"), strict=True),
    }
    assert len(seen) == 9
    assert depends_on(made(text, N=1), strict=True) in seen
    recursive = "def f(x):\n    return f(x - 1)"
    assert depends_on(made(recursive), strict=True) == depends_on(made(recursive), strict=True)


def test_where_it_stands_does_not_matter() -> None:
    here, there = "def f(x):\n    return x", "\n\n\ndef f(x):\n\n    return x"
    assert depends_on(made(here), strict=True) == depends_on(made(there), strict=True)


def test_a_type_that_is_not_numbas_has_no_canonical_form() -> None:
    class Integer:
        name = "int64"

    with pytest.raises(NoFingerprint):
        canonical((Integer(),))
    assert canonical(("int64(int64)", 1)) == canonical(["int64(int64)", 1])
    assert canonical((1,)) != canonical((True,))


def test_importing_it_imports_no_numba() -> None:
    words = "import sys, registry.numba; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
