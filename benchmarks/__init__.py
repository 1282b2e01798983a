"""Measurements, each file one question: `python -m benchmarks NAME [--quick]`.

What is compared is interleaved, round by round, for a machine that is busy with something else is
busy for both. The processes are the tests' own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
