"""Measurements, each file one question: `python -m benchmarks NAME [--quick]`.

Contestants are interleaved, round by round, so that other work on the machine disturbs all alike.
The processes are those of the tests.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
