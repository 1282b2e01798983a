"""A program with Triton, which knows nothing of the registry: four kernels for a GPU that need not
be there. It prints how many it compiled, by Triton's own stages, and the sizes of the binaries."""

import sys

import triton
import triton.language as tl
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

compiled = []
backend = backends["nvidia"].compiler
make_ptx = backend.make_ptx


def counting(*arguments, **named):
    compiled.append(1)
    return make_ptx(*arguments, **named)


def counting_method(self, *arguments, **named):
    compiled.append(1)
    return make_ptx(self, *arguments, **named)


is_static = isinstance(vars(backend)["make_ptx"], staticmethod)
backend.make_ptx = staticmethod(counting) if is_static else counting_method


@triton.jit
def add(x, y, n, B: tl.constexpr):  # noqa: N803
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    tl.store(y + i, tl.load(x + i, m) + tl.load(y + i, m), m)


def source(block):
    signature = {"x": "*fp32", "y": "*fp32", "n": "i32"}
    if triton.__version__.startswith("3.2."):
        return ASTSource(fn=add, signature=signature, constants={"B": block})
    signature["B"] = "constexpr"
    return ASTSource(fn=add, signature=signature, constexprs={"B": block})


if "wait" in sys.argv:
    print("ready", flush=True)
    sys.stdin.readline()
sizes = []
for block in (64, 128, 256, 512):
    kernel = triton.compile(source(block), target=GPUTarget("cuda", 90, 32))
    sizes.append(len(kernel.asm["cubin"]))
    assert ".target sm_90" in kernel.asm["ptx"]
print("compiled", len(compiled), *sizes, flush=True)
