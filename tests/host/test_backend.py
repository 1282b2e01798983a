"""Which modules are backends, and how they are named."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from host.backends import echo

from registry.host.backend import import_path, load


def test_a_backend_is_named_by_its_path_or_is_the_module():
    assert import_path("host.backends.echo") == "host.backends.echo"
    assert import_path(echo) == "host.backends.echo"


def test_the_main_module_is_refused_for_workers_could_not_import_it():
    with pytest.raises(TypeError, match="__main__"):
        import_path(ModuleType("__main__"))


def test_anything_else_is_no_backend():
    with pytest.raises(TypeError, match="not int"):
        import_path(5)


def test_loading_gives_the_module():
    assert load("host.backends.echo") is sys.modules["host.backends.echo"]


def test_a_module_without_the_functions_is_refused_and_says_which():
    with pytest.raises(TypeError, match="no function identity and no execute"):
        load("host.backends.incomplete")
