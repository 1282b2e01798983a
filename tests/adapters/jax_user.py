"""A program of a user that calls JAX; it knows nothing of any cache. Tells what XLA compiled."""

from __future__ import annotations

import sys

from jax._src import compiler

compiled = []
for name in ("backend_compile", "backend_compile_and_load"):
    if hasattr(compiler, name):

        def counted(
            *args: object, own: object = getattr(compiler, name), **kwargs: object
        ) -> object:
            compiled.append(1)
            return own(*args, **kwargs)  # type: ignore[operator]

        setattr(compiler, name, counted)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402


@jax.jit
def heavy(x: jax.Array) -> jax.Array:
    for number in range(20):
        x = jnp.sin(x) @ x + number
    return x


if "wait" in sys.argv:
    print("ready", flush=True)
    sys.stdin.readline()
value = heavy(jnp.ones((8, 8))).sum()
if "callback" in sys.argv:

    @jax.jit
    def called(x: jax.Array) -> jax.Array:
        jax.debug.print("x is {x}", x=x)
        return x + 1

    called(jnp.ones(3)).block_until_ready()
    jax.effects_barrier()
if "fails" in sys.argv:
    try:
        jax.jit(lambda x: x, backend="nobody-has-this")(1.0)
    except RuntimeError:
        print("failed as ever")
print("compiled", len(compiled), float(value))
