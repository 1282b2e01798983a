"""A backend that does on purpose what others do by accident, named by the code or the request."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.errors import (
    CodeTooLarge,
    InternalError,
    InvalidCandidate,
    PossiblyInvalid,
    PrepareError,
)
from registry.host import wire
from registry.host.messages import Reply


def identity(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": "rogue", **params}


def prepare(code: bytes, params: Mapping[str, Any]) -> Any:
    wish = json.loads(code)
    done = DEEDS[wish["do"]](wish)
    return done if wish.get("as it is") else b"prepared"


def execute(path: Path, request: Any) -> Any:
    return DEEDS[request["do"]](request)


def meet(wish: dict[str, Any]) -> bytes | None:
    """Say who we are to whoever listens there, and wait for the word to go on."""
    with socket.socket(socket.AF_UNIX) as meeting:
        meeting.connect(wish["at"])
        meeting.sendall(f"{os.getpid()} {os.getppid()}\n".encode())
        meeting.recv(1)
    return read(wish) if wish.get("read") else None


def read(wish: dict[str, Any]) -> bytes:
    return Path("../artifact").read_bytes()


def verify(wish: dict[str, Any]) -> str:
    """Refuse an artifact that we would never have prepared."""
    if read(wish) != b"prepared":
        raise PossiblyInvalid("not what I wrote", kind="corrupted_artifact")
    return "verified"


def raise_named(wish: dict[str, Any]) -> None:
    errors = {
        "ValueError": ValueError("no such thing"),
        "OSError": OSError("the disk is unwell"),
        "NameError": NameError("name 'comple' is not defined"),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError(),
        "NoThread": RuntimeError("can't start new thread"),
        "Unremembered": PrepareError("no licence today", kind="unlicensed", remembered=False),
        "Surrogate": ValueError("\ud800 and \0"),
        "Long": ValueError("x" * 10**6),
        "Prevalidation": PrepareError("not wasm", kind="prevalidation"),
        "Transient": PrepareError("come again", kind="tired", deterministic=False),
        "CodeTooLarge": CodeTooLarge("more than I can take"),
        "InvalidCandidate": InvalidCandidate("the code says no"),
        "PossiblyInvalid": PossiblyInvalid("not what I wrote", kind="corrupted_artifact"),
        "InternalError": InternalError("my fault", kind="mine"),
    }
    if wish["error"] in dir(errno):
        raise OSError(getattr(errno, wish["error"]), "not today")
    raise errors[wish["error"]]


def abort_saying(wish: dict[str, Any]) -> None:
    os.write(2, wish["words"].encode())
    os.abort()


def loop_for_ever(wish: dict[str, Any]) -> None:
    while True:
        pass


def loop_in_a_thread(wish: dict[str, Any]) -> None:
    thread = threading.Thread(target=loop_for_ever, args=(wish,))
    thread.start()
    thread.join()


def burn(wish: dict[str, Any]) -> None:
    """Use that much CPU time, however long it takes, and answer all the same."""
    while time.process_time() < wish["seconds"]:
        pass


def burn_in_a_child(wish: dict[str, Any]) -> None:
    burning = f"import time\nwhile time.process_time() < {wish['seconds']}: pass"
    subprocess.run([sys.executable, "-I", "-c", burning], check=True)


def sleep_for_ever(wish: dict[str, Any]) -> None:
    while True:
        time.sleep(60)


def allocate_for_ever(wish: dict[str, Any]) -> None:
    held = []
    while True:
        held.append(bytearray(1024**2))


def abort_for_want_of_memory(wish: dict[str, Any]) -> None:
    """Do as a compiler in C++ or Rust does that is refused memory."""
    while True:
        try:
            mmap.mmap(-1, 1 << 50, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:
            os.write(2, b"memory allocation of 1125899906842624 bytes failed\n")
            os.abort()


def reserve(wish: dict[str, Any]) -> str:
    """Reserve addresses without touching them, as a WebAssembly runtime does."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    mmap.mmap(-1, wish["bytes"], flags=flags, prot=mmap.PROT_READ)
    return "reserved"


def leave(wish: dict[str, Any]) -> None:
    os._exit(wish.get("status", 0))


def signal_self(wish: dict[str, Any]) -> None:
    os.kill(os.getpid(), wish["signal"])


def signal_group(wish: dict[str, Any]) -> None:
    os.kill(0, wish["signal"])


def signal_worker(wish: dict[str, Any]) -> None:
    os.kill(os.getppid(), wish["signal"])
    sleep_for_ever(wish)


def crash(wish: dict[str, Any]) -> None:
    ctypes.string_at(0)


def shout(wish: dict[str, Any]) -> str:
    """Write a great deal to wherever a protocol might be spoken."""
    noise = b"\0\0\0\0\0\0\0\0 not a frame " * 50_000
    for descriptor in (1, 2):
        os.write(descriptor, noise)
    print("and once more", flush=True)
    return "said"


def shout_at_everything(wish: dict[str, Any]) -> None:
    """Write nonsense to every descriptor there is, the pipe for the report among them."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.write(int(name), b"\xff" * 64)


def fork_and_answer(wish: dict[str, Any]) -> str:
    """Leave three generations behind, of which the last two are in a session of their own."""
    heard, said = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(said, b".")
        sleep_for_ever(wish)
    os.read(heard, 1)
    return "forked"


def fork_and_meet(wish: dict[str, Any]) -> None:
    fork_and_answer(wish)
    meet(wish)


def litter(wish: dict[str, Any]) -> list[str]:
    """Leave files wherever a job may, and say what was there before."""
    found = sorted(path.name for path in Path.cwd().parent.rglob("*"))
    Path("left").mkdir()
    Path("left/behind").write_text("x")
    Path("left").chmod(0o500)
    Path("../outside").write_text("x")
    Path("../link").symlink_to("/")
    tempfile.mkstemp()
    return found


def look_around(wish: dict[str, Any]) -> dict[str, Any]:
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that was listing
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
    return {
        "environment": dict(os.environ),
        "descriptors": descriptors,
        "directory": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "path": sys.path,
        "input": os.read(0, 1),
        "umask": os.umask(0),
        "session": os.getsid(0),
        "worker": os.getppid(),
        "self": os.getpid(),
    }


def answer(wish: dict[str, Any]) -> Any:
    return wish.get("with")


def answer_a_set(wish: dict[str, Any]) -> Any:
    return {1, 2}


def answer_much(wish: dict[str, Any]) -> bytes:
    return bytes(wish["bytes"])


def occupy_the_output(wish: dict[str, Any]) -> None:
    Path("../prepared").write_bytes(b"not this")


def nest(wish: dict[str, Any]) -> bytes:
    """Leave more folders within each other than a recursion can go down."""
    parent = os.open(".", os.O_RDONLY)
    for _ in range(wish["deep"]):
        os.mkdir("x", dir_fd=parent)
        child = os.open("x", os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    return b"nested"


def plant(wish: dict[str, Any]) -> None:
    """Put something into the place of the next artifact, and perhaps say that it is ours."""
    place = Path("..", wish.get("at", "prepared"))
    match wish["what"]:
        case "folder":
            (place / "sub").mkdir(parents=True)
        case "link":
            place.symlink_to("/etc/passwd")
        case "dangling link":
            place.symlink_to("/nowhere")
        case "fifo":
            os.mkfifo(place)
        case "second name":
            Path("../other").write_text("x")
            os.link("../other", place)
    if wish.get("claiming success"):
        said = wire.frame(Reply().to_wire())
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2:
                    os.write(int(name), said)
        sleep_for_ever(wish)
    raise ValueError("innocent looking")


def make_immutable(wish: dict[str, Any]) -> str:
    """Leave what not even root can remove as it is; where, so that it can be undone."""
    Path("stays").write_text("x")
    subprocess.run(["chattr", "+i", "stays"], check=True)
    return str(Path("stays").resolve())


def remove_the_folder(wish: dict[str, Any]) -> None:
    shutil.rmtree(Path.cwd().parent)


def forge_a_report(wish: dict[str, Any]) -> None:
    """Report in the job's place, with a result that is none."""
    pipes = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    for pipe in pipes:
        with contextlib.suppress(OSError):
            os.write(pipe, wire.frame(Reply(result=wish.get("result", b"\xc1")).to_wire()))
    sleep_for_ever(wish)


def read_file(wish: dict[str, Any]) -> bytes:
    with open(wish["path"], "rb") as file:
        return file.read(wish.get("size", -1))


def write_file(wish: dict[str, Any]) -> None:
    Path(wish["path"]).write_text("written")


def list_folder(wish: dict[str, Any]) -> list[str]:
    return os.listdir(wish["path"])


def empty_folder(wish: dict[str, Any]) -> None:
    for name in wish["names"]:
        Path(wish["path"], name).unlink()


def import_module(wish: dict[str, Any]) -> str:
    return importlib.import_module(wish["name"]).__name__


def connect(wish: dict[str, Any]) -> None:
    socket.create_connection(("127.0.0.1", wish["port"])).close()


def introduce(wish: dict[str, Any]) -> list[int]:
    return [os.getpid(), os.getppid()]


DEEDS = {
    "meet": meet,
    "read": read,
    "raise": raise_named,
    "verify": verify,
    "loop": loop_for_ever,
    "loop in a thread": loop_in_a_thread,
    "burn": burn,
    "burn in a child": burn_in_a_child,
    "sleep": sleep_for_ever,
    "allocate": allocate_for_ever,
    "abort for want of memory": abort_for_want_of_memory,
    "reserve": reserve,
    "leave": leave,
    "signal self": signal_self,
    "signal group": signal_group,
    "signal worker": signal_worker,
    "crash": crash,
    "shout": shout,
    "shout at everything": shout_at_everything,
    "fork": fork_and_answer,
    "fork and meet": fork_and_meet,
    "litter": litter,
    "look around": look_around,
    "answer": answer,
    "answer a set": answer_a_set,
    "answer much": answer_much,
    "occupy the output": occupy_the_output,
    "remove the folder": remove_the_folder,
    "nest": nest,
    "abort saying": abort_saying,
    "plant": plant,
    "make immutable": make_immutable,
    "forge a report": forge_a_report,
    "introduce": introduce,
    "read file": read_file,
    "write file": write_file,
    "list folder": list_folder,
    "empty folder": empty_folder,
    "import": import_module,
    "connect": connect,
}
