"""Draw the picture of the README from a real run: `python docs/terminal.py > docs/terminal.svg`.

The commands run one after the other in an empty home, with the `registry` of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python examples/unrolled.py > ~/unrolled.wat": "",
    "seq 8 | xargs -P 8 -I{} registry run unrolled.wat --invoke count_primes {}000 2>&1 "
    "| grep -E '^(miss|hit)'": "# eight processes need the same module at once",
    "registry run unrolled.wat --invoke count_primes 1000000": "# and a later one",
    "registry ls": "",
    "registry stats": "",
}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  aria-label="{label}">
<style>
  rect {{ fill: #1e2430 }}
  text {{ font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre }}
  .command {{ fill: #a3be8c }}
  .comment {{ fill: #8b98ad }}
</style>
<rect width="{width}" height="{height}" rx="8"/>
"""
LABEL = (
    "A terminal: eight processes need one module, one compiles it, and all others use the result"
)
WIDTH, LINE, MARGIN, COLUMNS = 900, 20, 24, 100


def lines() -> Iterator[tuple[str, str]]:
    """Run the commands, each where the one before was: lines, each with its kind."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": path, "HOME": home, "LANG": "C.UTF-8", "COLUMNS": str(COLUMNS)}
        for command, comment in COMMANDS.items():
            ran = ["sh", "-c", f"exec 2>&1; {command}"]
            where = ROOT if "examples/" in command else home
            done = subprocess.run(ran, cwd=where, env=environment, stdout=-1, text=True, check=True)
            if comment:
                yield "comment", comment
            yield "command", f"$ {command}"
            yield from (("said", line) for line in done.stdout.splitlines())


def picture() -> str:
    """The whole picture."""
    drawn = list(lines())
    height = 2 * MARGIN + LINE * len(drawn)
    texts = (
        f'<text class="{kind}" x="{MARGIN}" y="{MARGIN + LINE * n + 14}">{escape(line)}</text>'
        for n, (kind, line) in enumerate(drawn)
    )
    head = HEAD.format(width=WIDTH, height=height, label=LABEL)
    return head + "\n".join(texts) + "\n</svg>\n"


if __name__ == "__main__":
    sys.stdout.write(picture())
