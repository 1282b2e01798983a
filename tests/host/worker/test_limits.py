"""What a job may use."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from registry.errors import InvalidSetting
from registry.host.worker.limits import WALL_FACTOR, Limits


def test_the_worker_gives_up_before_the_host_gives_up_the_worker():
    for seconds in (0.001, 1, 60, 360):
        limits = Limits.of(timedelta(seconds=seconds), None)
        assert limits.cpu < limits.patience < limits.spans[0] < limits.wall
        assert sum(limits.spans) == pytest.approx(limits.wall) == WALL_FACTOR * seconds


@pytest.mark.parametrize(
    ("cpu", "memory"), [(timedelta(0), None), (timedelta(seconds=1), 0), (-timedelta(1), None)]
)
def test_no_time_or_no_memory_is_refused(cpu, memory):
    with pytest.raises(InvalidSetting):
        Limits.of(cpu, memory)


@pytest.mark.parametrize(("cpu", "memory"), [(1, None), (timedelta(seconds=1), 1.5)])
def test_a_bare_number_is_no_time_and_a_fraction_no_memory(cpu, memory):
    with pytest.raises(TypeError):
        Limits.of(cpu, memory)


IMPOSE = """
import resource
from registry.host.worker.limits import Limits

Limits(8.5, 2**30).impose()
names = "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_CORE"
print([resource.getrlimit(getattr(resource, name)) for name in names])
"""


def test_the_kernel_ends_what_nobody_watches_but_not_what_is_within_its_limits():
    done = subprocess.run(
        [sys.executable, "-c", IMPOSE], capture_output=True, text=True, check=True
    )
    (warned, ended), data, files, core = eval(done.stdout)
    assert 1.5 * 8.5 < warned < ended < WALL_FACTOR * 8.5  # its clock is not ours: see CPU_SLACK
    assert data == files == (2**30, 2**30)
    assert core == (0, 0)
