"""Write a WebAssembly module that contains every prime below 65,536.

    python unrolled.py > unrolled.wat
    registry run unrolled.wat --invoke count_primes 1000000     78498

It tells whether a 32-bit number is prime by trial division, unrolled: two lines for each prime,
with no loop and no division. An odd p divides n exactly when n times the inverse of p, modulo
2^32, is at most (2^32 - 1) / p; both numbers are known when the module is written. The module runs
fast and compiles slowly: an example of code that is worth caching.
"""

from collections.abc import Iterator

WORD = 2**32
ROOT = 2**16


def primes(limit: int) -> Iterator[int]:
    """Yield every prime below the limit."""
    composite = bytearray(limit)
    for number in range(2, limit):
        if not composite[number]:
            yield number
            for multiple in range(number * number, limit, number):
                composite[multiple] = 1


def trial(prime: int) -> str:
    """Decide n if it is below the square of the prime or one of its multiples."""
    inverse, most = pow(prime, -1, WORD), (WORD - 1) // prime
    return f"""
    (br_if $prime (i32.lt_u (local.get $n) (i32.const {prime * prime})))
    (br_if $composite
      (i32.le_u (i32.mul (local.get $n) (i32.const {inverse})) (i32.const {most})))"""


def module() -> str:
    """Write the whole module."""
    trials = "".join(trial(prime) for prime in primes(ROOT) if prime > 2)
    return f"""(module
  (func $is_prime (export "is_prime") (param $n i32) (result i32)
    (block $prime (block $composite
    (br_if $composite (i32.lt_u (local.get $n) (i32.const 2)))
    (br_if $prime (i32.eq (local.get $n) (i32.const 2)))
    (br_if $composite (i32.eqz (i32.and (local.get $n) (i32.const 1)))){trials}
    (br $prime))
    (return (i32.const 0)))
    (i32.const 1))

  (func (export "count_primes") (param $limit i32) (result i32)
    (local $count i32)
    (loop $next
      (if (local.get $limit)
        (then
          (local.set $count (i32.add (local.get $count) (call $is_prime (local.get $limit))))
          (local.set $limit (i32.sub (local.get $limit) (i32.const 1)))
          (br $next))))
    (local.get $count)))
"""


if __name__ == "__main__":
    print(module(), end="")
