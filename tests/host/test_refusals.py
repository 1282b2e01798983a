"""What a host remembers of its own failures."""

from __future__ import annotations

import gc
import sys
from datetime import timedelta

import pytest
from host.hosting import hosting
from host.stories import story, wish

from registry import NotPrepared


@story
async def test_a_failure_of_this_host_does_not_hold_the_code_in_memory(hosted):
    code = wish("loop", filling="x" * 1000)
    async with hosting(hosted, precheck_timeout=timedelta(seconds=0.2)) as host:
        for _ in range(2):  # the second is answered from memory
            with pytest.raises(NotPrepared, match="CPU time") as caught:
                await host.precheck(code)
            assert caught.value.kind == "timed_out"
            del caught
            gc.collect()
            assert sys.getrefcount(code) == 2
        assert host.metrics.prepare.enqueued == 1
