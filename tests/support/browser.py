"""A page, as a real browser without a screen shows it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHROMIUM", "Picture", "dom", "screenshot"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """Pixels, row by row."""

    width: int
    height: int
    rows: list[bytes]  # three bytes a pixel

    def at(self, x: int, y: int) -> Colour:
        """One pixel."""
        red, green, blue = self.rows[y][3 * x : 3 * x + 3]
        return red, green, blue

    def count(self, colour: Colour) -> int:
        """How many pixels have a colour."""
        return sum(
            list(zip(row[::3], row[1::3], row[2::3], strict=True)).count(colour)
            for row in self.rows
        )


def screenshot(page: Path, width: int, height: int, *, dark: bool = False) -> Picture:
    """Look at a page in a window of a size."""
    picture = page.with_suffix(".png")
    scheme = ["--force-dark-mode"] if dark else []
    size = f"--window-size={width},{height}"
    _run(page, size, f"--screenshot={picture}", *scheme)
    return _decoded(picture.read_bytes())


def dom(page: Path) -> str:
    """What the browser made of a page."""
    return _run(page, "--dump-dom")


def _run(page: Path, *options: str) -> str:
    profile = page.parent / "profile"
    command = [
        CHROMIUM or "chromium",
        "--headless",
        "--no-sandbox",  # which root may not have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _decoded(png: bytes) -> Picture:
    """Decode what a browser writes: 8 bits a channel, not interlaced."""
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", png[16:29])
    assert (depth, interlaced) == (8, 0)
    channels = {2: 3, 6: 4}[kind]
    raw, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            raw += png[at + 8 : at + 8 + length]
        at += 12 + length
    data, rows = zlib.decompress(raw), []
    stride = width * channels
    before = bytes(stride)
    for y in range(height):
        start = y * (stride + 1)
        before = _unfiltered(data[start], data[start + 1 : start + 1 + stride], before, channels)
        rows.append(b"".join(before[x : x + 3] for x in range(0, stride, channels)))
    return Picture(width, height, rows)


def _unfiltered(kind: int, line: bytes, above: bytes, channels: int) -> bytes:
    """Undo what PNG does to a row: each byte was stored as the difference to its neighbours."""
    if kind == 0:
        return line
    if kind == 2:
        return bytes((byte + up) & 255 for byte, up in zip(line, above, strict=True))
    row = bytearray(line)
    for n, byte in enumerate(line):
        left = row[n - channels] if n >= channels else 0
        corner = above[n - channels] if n >= channels else 0
        up = above[n]
        guess = left if kind == 1 else (left + up) // 2 if kind == 3 else _paeth(left, up, corner)
        row[n] = (byte + guess) & 255
    return bytes(row)


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda it: abs(guess - it))
