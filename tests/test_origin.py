"""Which function it is: proven to all processes, or refused. Never another function's bytes."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, wraps
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path
from typing import Any

import pytest

from registry import FunctionRefused, InvalidParams, Registry, prepared
from registry.recipe import Terms

ROOT = Path(__file__).parents[1]
HEAD = "from registry import prepared\n"


@pytest.fixture(autouse=True)
def users_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))


def python(
    folder: Path, *words: str, given: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def said(folder: Path, *words: str, **env: str) -> str:
    done = python(folder, *words, **env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def plain(n: int) -> bytes:
    return bytes(n)


class Kernel:
    def __init__(self, n: int) -> None:
        self.n = n

    def build(self, n: int) -> bytes:
        return bytes(n * self.n)

    @classmethod
    def made(cls, n: int) -> bytes:
        return bytes(n)

    def __call__(self, n: int) -> bytes:
        return bytes(n)


def times(k: int) -> Callable[[int], bytes]:
    def build(n: int) -> bytes:
        return b"%d" % (n * k)

    return build


def logged(function: Callable[..., bytes]) -> Callable[..., bytes]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> bytes:
        return function(*args, **kwargs)

    return wrapper


def executed(spaces: dict[str, Any], file: str = "<string>") -> Any:
    exec(compile("def build(n: int) -> bytes:\n    return bytes(n)\n", file, "exec"), spaces)
    return spaces["build"]


def renamed() -> Callable[..., bytes]:
    copy = types.FunctionType(plain.__code__, globals(), "other")
    copy.__qualname__ = "other"
    return copy


UNPROVEN: list[tuple[str, Callable[[], Any]]] = [
    ("lambda", lambda: lambda n: bytes(n)),
    ("captures k", lambda: times(3)),
    ("partial", lambda: partial(plain, 3)),
    ("method", lambda: Kernel(3).build),
    ("method", lambda: Kernel.made),
    ("Kernel", lambda: Kernel(3)),
    ("builtin", lambda: bytes.fromhex),
    ("captures function", lambda: logged(plain)),
    ("in no file", lambda: executed({"__name__": "__main__"}, "/tmp/ipykernel_1/7.py")),
    ("in no file", lambda: executed({"__name__": "kernels"})),
    ("not from the file", lambda: executed(dict(globals()))),
    ("renamed or wrapped", renamed),
]


@pytest.mark.parametrize(("why", "function"), UNPROVEN)
@pytest.mark.parametrize("source", [True, False])
def test_what_nothing_proves_is_refused_where_it_is_decorated(
    why: str, function: Callable[[], Any], source: bool
) -> None:
    with pytest.raises(FunctionRefused, match=f"{why}.*give name="):
        prepared(version=1, source=source)(function())


@pytest.mark.parametrize("named", [{}, {"name": "build"}])
def test_a_method_is_refused_whatever_its_name(named: dict[str, str]) -> None:
    with pytest.raises(FunctionRefused, match="is a method"):
        prepared(version=1, **named)(Kernel.build)
    with pytest.raises(FunctionRefused, match="put @staticmethod above"):
        prepared(version=1, **named)(staticmethod(plain))
    with pytest.raises(FunctionRefused, match="not a int"):
        prepared(version=1, **named)(3)  # type: ignore[call-overload]


def test_an_attribute_of_a_class_is_never_called_with_its_object() -> None:
    class Compiler:
        @prepared(version=1)
        def build(this: object, x: int = 7) -> bytes:  # noqa: N805
            return repr((this, x)).encode()

        @staticmethod
        @prepared(version=1)
        def fixed(x: int) -> bytes:
            return b"%d" % x

    with pytest.raises(FunctionRefused, match="put @staticmethod above"):
        Compiler().build(3)
    with pytest.raises(FunctionRefused, match="build"):
        asyncio.run(Compiler.build(3))
    assert Compiler().fixed(3) == Compiler.fixed(3) == b"3"


def test_a_name_must_be_text_that_names() -> None:
    with pytest.raises(FunctionRefused, match="empty"):
        prepared(version=1, name="")(plain)
    with pytest.raises(TypeError, match="name is a str"):
        prepared(version=1, name=3)(plain)  # type: ignore[arg-type]
    with pytest.raises(InvalidParams, match="name"):
        prepared(version=1, name="\udcff")(plain)


def test_what_has_no_code_of_python_needs_source_false() -> None:
    with pytest.raises(FunctionRefused, match="source=False"):
        prepared(version=1, name="kernel")(Kernel(3))
    assert prepared(version=1, name="kernel", source=False)(Kernel(3))(3) == bytes(3)


# --- with a name, and without ---------------------------------------------------------------------


def id_of(function: Callable[..., Any], **terms: Any) -> object:
    return Terms(function, 1, **{"name": "build", **terms}).id(3)


def test_functions_that_were_given_one_name_are_told_apart_by_their_code() -> None:
    first, second = (lambda n: b"first"), (lambda n: b"second")
    assert id_of(first) != id_of(second)
    assert id_of(first, source=False) == id_of(second, source=False)
    assert id_of(first) == id_of(lambda n: b"first")


def test_what_was_put_into_a_named_function_tells_it_apart() -> None:
    assert id_of(times(2)) != id_of(times(10))
    assert id_of(times(2)) == id_of(times(2))
    assert id_of(partial(times(2))) != id_of(partial(times(10)))
    assert id_of(partial(lambda k, n: bytes(n * k), 2)) != id_of(
        partial(lambda k, n: bytes(n * k), 3)
    )
    assert id_of(logged(lambda n: b"one")) != id_of(logged(lambda n: b"two"))
    with pytest.raises(InvalidParams, match="partial"):
        id_of(partial(lambda k, n: bytes(n), object()))


def test_a_captured_list_that_grows_does_not_count() -> None:
    calls: list[int] = []

    @prepared(version=1, name="build")
    def build(n: int) -> bytes:
        calls.append(n)
        return bytes(n)

    assert build(3) == build(3) == bytes(3)
    assert calls == [3]


def test_another_key_is_another_artifact() -> None:
    one, two = (lambda n: "same"), (lambda n: "sa" + "me"[:2])
    assert id_of(plain, key=one) != id_of(plain, key=two)
    assert id_of(plain, key=one) == id_of(plain, key=lambda n: "same")
    assert id_of(plain, key=str) == id_of(plain, key=str)


class Picker:
    """A key with a state."""

    def __init__(self, wanted: object) -> None:
        self.wanted = wanted

    def __call__(self, n: int) -> object:
        return self.wanted

    def pick(self, n: int) -> object:
        return self.wanted


class Slotted:
    __slots__ = ("__hidden",)

    def __init__(self, wanted: object) -> None:
        self.__hidden = wanted

    def __call__(self, n: int) -> object:
        return self.__hidden


@dataclass(frozen=True)
class Framed:
    wanted: object

    def __call__(self, n: int) -> object:
        return self.wanted


def with_default(wanted: object) -> Callable[..., object]:
    return lambda n, wanted=wanted: "same"


def with_keyword(wanted: object) -> Callable[..., object]:
    return lambda n, *, wanted=wanted: "same"


def capturing(wanted: object) -> Callable[..., object]:
    return lambda n: ("same", wanted)[0]


def capturing_a_method(wanted: object) -> Callable[..., object]:
    pick = Picker(wanted).pick
    return lambda n: ("same", pick)[0]


KEYS: dict[str, Callable[[Any], Callable[..., object]]] = {
    "an object": Picker,
    "an object with slots": Slotted,
    "a dataclass": Framed,
    "a bound method": lambda wanted: Picker(wanted).pick,
    "a partial": lambda wanted: partial(lambda wanted, n: "same", wanted),
    "a partial of a default": lambda wanted: partial(with_default(wanted)),
    "a default": with_default,
    "a keyword's default": with_keyword,
    "a captured value": capturing,
    "a captured method": capturing_a_method,
    "a wrapped function": lambda wanted: wraps(with_default(wanted))(lambda n: "same"),
    "a cached function": lambda wanted: cache(with_default(wanted)),
}


@pytest.mark.parametrize("source", [True, False])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_keys_that_were_made_with_something_else_are_told_apart(
    key: Callable[[Any], Callable[..., object]], source: bool
) -> None:
    values: list[Any] = ["a", "b", ["a"], ["b"], 1, 1.0, True, 0.0, -0.0, b"a", bytearray(b"a")]
    told = {str(Terms(plain, 1, name="f", key=key(it), source=source).fixed) for it in values}
    assert len(told) == len(values)
    assert id_of(plain, key=key("a"), source=source) == id_of(plain, key=key("a"), source=source)


@pytest.mark.parametrize("source", [True, False])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_that_holds_what_cannot_be_told_is_refused(
    key: Callable[[Any], Callable[..., object]], source: bool
) -> None:
    with pytest.raises((FunctionRefused, InvalidParams)):
        id_of(plain, key=key(object()), source=source)


def test_keys_of_c_are_told_apart_or_refused() -> None:
    keys: list[Any] = [str, len, abs, str.upper, itemgetter(0), itemgetter(1), attrgetter("a")]
    assert len({Terms(plain, 1, name="f", key=key).fixed["source"][1] for key in keys}) == len(keys)
    for key in ("abc".join, Path, methodcaller("a", b=1), {"a": 1}.get, itemgetter(object())):
        with pytest.raises((FunctionRefused, InvalidParams)):
            Terms(plain, 1, name="f", key=key)


def test_functions_that_are_captured_twice_count_where_they_are() -> None:
    def of(a: object, b: object, c: object) -> Callable[[int], bytes]:
        return lambda n: repr((a, b, c)).encode()

    one, two = times(1), times(2)
    assert id_of(of(one, one, two)) != id_of(of(one, two, two))
    assert id_of(of(partial(one), 0, 0)) != id_of(of(partial(two), 0, 0))


def test_a_recursive_function_and_one_that_is_bound_later_have_a_digest() -> None:
    def again(n: int) -> bytes:
        return again(n - 1) if n else b"done"

    def early() -> object:
        made = id_of(lambda n: later)
        later = 1
        return made, later

    assert id_of(again) == id_of(again)
    assert early() == early()


def test_a_set_in_the_code_is_the_same_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(
        HEAD + "@prepared(version=1)\ndef build(n):\n    return b'1' if n in {'a','b','c','d'} "
        "else b'2'\n"
    )
    ask = "import kernels; print(kernels.build.id('a'))"
    assert len({said(tmp_path, "-c", ask, PYTHONHASHSEED=str(n)) for n in range(4)}) == 1


BUILD = "@prepared(version=1)\ndef build(n: int) -> bytes:\n    return b'%s' * n\n"


def test_projects_with_a_module_of_one_name_do_not_share(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernels.py").write_text(HEAD + BUILD % "x")
    ask = "import kernels; print(kernels.build.id(3), kernels.build(3))"
    first, second = said(tmp_path / "one", "-c", ask), said(tmp_path / "two", "-c", ask)
    assert first != second
    assert said(tmp_path / "one", "-c", ask) == first


def test_edited_code_is_not_answered_by_old_results(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    ask = "import kernels; print(kernels.build(1))"
    for text in ("one", "two", "one"):
        kernels.write_text(HEAD + BUILD % text)
        assert said(tmp_path, "-c", ask) == f"b'{text}'"
    kernels.write_text("\n# a comment\n" + HEAD + BUILD % "one")
    count = (
        "import registry.process_handles as s, kernels; kernels.build(1); r, = s._handles.values();"
    )
    assert said(tmp_path, "-c", f"{count} print(r.counters.hits)") == "1"


def test_with_source_false_the_version_says_what_was_edited(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    ask = "import kernels; print(kernels.build(1))"
    for version, text, answer in ((1, "one", "one"), (1, "two", "one"), (2, "two", "two")):
        text = (HEAD + BUILD % text).replace("version=1", f"version={version}, source=False")
        kernels.write_text(text)
        assert said(tmp_path, "-c", ask) == f"b'{answer}'"


def test_a_module_that_is_loaded_again_may_bring_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kernels = tmp_path / "kernels_of_reload.py"
    kernels.write_text(HEAD + BUILD % "one")
    module = importlib.import_module(kernels.stem)
    assert module.build(1) == b"one"
    kernels.write_text(HEAD + BUILD % "three")
    assert importlib.reload(module).build(1) == b"three"
    monkeypatch.delitem(sys.modules, kernels.stem)


@pytest.mark.parametrize("indented", [False, True])
def test_a_redefinition_that_changes_the_code_is_refused(tmp_path: Path, indented: bool) -> None:
    text = BUILD % "one" + "first = build\n" + BUILD % "two"
    if indented:
        text = "def local():\n" + "".join(f"    {line}\n" for line in text.splitlines())
    (tmp_path / "kernels.py").write_text(HEAD + text + ("local()\n" if indented else ""))
    done = python(tmp_path, "-c", "import kernels")
    assert "was decorated before with other code" in done.stderr
    assert "give name=" in done.stderr


def test_a_local_function_that_captures_nothing_needs_its_code(registry: Registry) -> None:
    def build(n: int) -> bytes:
        return bytes(n)

    assert registry.artifact(version=1)(build)(3) == bytes(3)
    with pytest.raises(FunctionRefused, match=r"local to a function.*give name="):
        registry.artifact(version=1, source=False)(build)


# --- where it lives -------------------------------------------------------------------------------

ASK = "print(build.id(3), build(3))\n"


@pytest.mark.parametrize("words", [["-c", HEAD + BUILD % "x"], ["-"]])
def test_what_is_in_no_file_is_refused(tmp_path: Path, words: list[str]) -> None:
    done = python(tmp_path, *words, given=HEAD + BUILD % "x")
    assert "build is in no file" in done.stderr
    assert "give name=" in done.stderr


def test_a_cell_of_a_notebook_needs_a_name_and_is_a_hit_after_a_restart(tmp_path: Path) -> None:
    """As ipykernel runs a cell: in a file whose name has the number of the process."""
    cell = HEAD + BUILD.replace("version=1", "version=1, name='build'") % "x" + ASK
    run = (
        "import os, sys\n"
        f"exec(compile({cell!r}, f'/tmp/ipykernel_{{os.getpid()}}/7.py', 'exec'))\n"
        "import registry.process_handles as s; r, = s._handles.values(); print(r.counters.hits)"
    )
    first, second = (said(tmp_path, "-c", run).split("\n") for _ in range(2))
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("0", "1")
    unnamed = python(tmp_path, "-c", run.replace(", name='build'", ""))
    assert "give name=" in unnamed.stderr


def test_a_script_is_its_file_however_it_is_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HEAD + BUILD % "x" + ASK)
    (tmp_path / "link.py").symlink_to(script)
    there = tmp_path / "there"
    there.mkdir()
    found = said(tmp_path, "script.py")
    assert said(there, "../script.py") == found
    assert said(there, str(script)) == found
    assert said(tmp_path, "link.py") == found


def test_a_module_that_is_run_is_the_module_that_is_imported(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(HEAD + BUILD % "x" + ASK)
    assert said(tmp_path, "-m", "kernels") == said(tmp_path, "-c", "import kernels")


def test_spawned_processes_share_what_the_script_built(tmp_path: Path) -> None:
    script = (
        HEAD + BUILD % "x" + "def ask():\n    print(build.id(3), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    import multiprocessing\n    ask()\n"
        "    child = multiprocessing.get_context('spawn').Process(target=ask)\n"
        "    child.start(); child.join()\n"
    )
    (tmp_path / "script.py").write_text(script)
    parent, child = said(tmp_path, "script.py").split("\n")
    assert parent == child


def install(site: Path, version: str, text: str) -> None:
    """What pip leaves of a wheel."""
    (site / "kernels").mkdir(parents=True, exist_ok=True)
    (site / "kernels" / "rules.py").write_text(text)
    for old in site.glob("*.dist-info"):
        old.joinpath("RECORD").unlink()
        old.joinpath("METADATA").unlink()
        old.rmdir()
    info = site / f"my_kernels-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-kernels\nVersion: {version}\n")
    (info / "RECORD").write_text(f"kernels/rules.py,,\n{info.name}/METADATA,,\n")


def test_what_is_installed_goes_by_its_distribution_and_version(tmp_path: Path) -> None:
    ask = "import kernels.rules as rules; print(rules.build.id(3))"
    path = os.environ.get("PYTHONPATH", "")

    def asked(site: str, version: str) -> str:
        install(tmp_path / site, version, HEAD + BUILD % "x")
        places = os.pathsep.join(filter(None, [str(tmp_path / site), path, str(ROOT)]))
        return said(tmp_path, "-c", ask, PYTHONPATH=places)

    assert asked("one", "1.0") == asked("two", "1.0")
    assert asked("one", "1.1") != asked("two", "1.0")


def test_files_of_a_distribution_that_are_loaded_under_one_name_do_not_share(
    tmp_path: Path,
) -> None:
    for name in ("sm_80", "sm_90"):
        install(tmp_path / "site", "1.0", HEAD + BUILD % "rules")
        file = tmp_path / "site" / "kernels" / f"{name}.py"
        file.write_text(f"{HEAD}ARCH = {name!r}\n{BUILD % 'plugin'}")
        record = next((tmp_path / "site").glob("*.dist-info")) / "RECORD"
        record.write_text("kernels/rules.py,,\nkernels/sm_80.py,,\nkernels/sm_90.py,,\n")
    places = os.pathsep.join(
        filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    )
    load = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('plugin', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.build.id(3))"
    )
    run = "import runpy, sys; print(runpy.run_path(sys.argv[1], {}, '__main__')['build'].id(3))"
    for way in (load, run):
        ids = {
            said(tmp_path, "-c", way, str(file), PYTHONPATH=places)
            for file in (tmp_path / "site" / "kernels").glob("sm_*.py")
        }
        assert len(ids) == 2


# --- the arguments --------------------------------------------------------------------------------


def test_a_label_that_changes_what_it_is_shown_changes_nothing(registry: Registry) -> None:
    def spoil(flags: list[str]) -> str:
        flags.append("-evil")
        return "label"

    @registry.artifact(version=1, label=spoil)
    def build(flags: list[str]) -> bytes:
        return repr(flags).encode()

    assert build(["-O2"]) == b"['-O2']"
    assert build(["-O2"]) == b"['-O2']"


def test_what_is_built_is_built_from_the_arguments_as_they_were(registry: Registry) -> None:
    """They may change while another process holds the claim, or in the function itself."""
    flags: list[Any] = ["-O2", {"x": [1]}]

    def label(_: object) -> str:
        flags[1]["x"].append(2)  # as another thread would
        return "label"

    @registry.artifact(version=1, label=label)
    def build(flags: list[Any]) -> bytes:
        flags.append("own")
        return repr(flags).encode()

    assert build(flags) == b"['-O2', {'x': [1]}, 'own']"
    assert flags == ["-O2", {"x": [1, 2]}]


def test_equal_dicts_look_the_same_to_the_function(registry: Registry) -> None:
    @registry.artifact(version=1)
    def build(flags: dict[str, int], **more: int) -> bytes:
        return repr((flags, more)).encode()

    made = build({"b": 1, "a": 2}, d=3, c=4)
    assert made == build({"a": 2, "b": 1}, c=4, d=3) == b"({'a': 2, 'b': 1}, {'c': 4, 'd': 3})"


# --- the cache ------------------------------------------------------------------------------------


def test_a_relative_cache_stays_where_it_was_when_decorated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGISTRY_CACHE", "by-variable")
    given, by_variable = prepared(version=1, cache="given")(plain), prepared(version=1)(plain)
    for folder in (tmp_path, tmp_path / "elsewhere", Path("/proc")):
        monkeypatch.chdir(folder)
        assert given(3) == by_variable(3) == bytes(3)
    found = sorted(path.parent.name for path in tmp_path.rglob("registry.db"))
    assert found == ["by-variable", "given"]


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_CACHE", "~/by-variable")
    assert prepared(version=1, cache="~/given")(plain)(3) == prepared(version=1)(plain)(3)
    assert list((tmp_path / "work").iterdir()) == []
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"by-variable", "given"}


def test_it_decorates_where_the_working_directory_is_gone(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "kernels.py").write_text(HEAD + BUILD % "x" + "print(build(1))\n")
    script = "import os, sys, runpy; os.rmdir(os.getcwd()); runpy.run_path(sys.argv[1])"
    assert said(tmp_path / "gone", "-c", script, str(tmp_path / "kernels.py")) == "b'x'"


def test_a_project_in_a_folder_whose_name_is_no_text_has_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "latin_kernels.py").write_text("def build(n):\n    return bytes(n)\n")
    monkeypatch.syspath_prepend(str(folder))
    build = importlib.import_module("latin_kernels").build
    assert prepared(version=1)(build)(3) == bytes(3)
