"""Compile a real module once, and reuse it: in this process, and in one that starts later.

python examples/quickstart.py
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unrolled import module  # beside this file: a module that takes a while to compile

from registry import Registry, wasm

code = module().encode()
request = {"invoke": "count_primes", "args": [10_000]}

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary, "cache")

    with Registry(folder) as cache:
        for attempt in "miss", "hit":
            started = time.perf_counter()
            artifact = cache.get_or_prepare(
                wasm.artifact_id(code), lambda: wasm.prepare(code), label="unrolled.wat"
            )
            seconds = time.perf_counter() - started
            answer = wasm.execute(artifact.path, request)
            print(f"{attempt:>4}: {seconds * 1000:9.3f} ms, {answer['values'][0]} primes")

    source = Path(temporary, "unrolled.wat")
    source.write_bytes(code)
    command = [sys.executable, "-m", "registry", "--cache", str(folder), "run", str(source)]
    subprocess.run([*command, "--invoke", "count_primes", "10000"], check=True)
