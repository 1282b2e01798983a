"""A program with Numba, which knows nothing of the registry. It prints what each function answered,
and how many of them Numba had to compile."""

import sys

import numba_constants
import numpy as np
from numba import cfunc, guvectorize, njit, prange, vectorize


@njit(cache=True)
def twice(x):
    return x * 2


@njit(cache=True)
def total(x):
    s = x * 0
    for i in range(10):
        s += twice(i) + x
    return s + numba_constants.SHIFT


@njit(cache=True, parallel=True)
def parallel_total(values):
    s = 0.0
    for i in prange(values.shape[0]):
        s += values[i]
    return s


def power(x):
    return x * x + x


exact = njit(cache=True)(power)
fast = njit(cache=True, fastmath=True)(power)


@vectorize(["float64(float64,float64)"], cache=True)
def added(a, b):
    return a + b


@guvectorize(["void(float64[:],float64[:])"], "(n)->(n)", cache=True)
def shifted(values, out):
    for i in range(values.shape[0]):
        out[i] = values[i] + 1


@cfunc("float64(float64)", cache=True)
def called_by_c(x):
    return x + 1


space = {"njit": njit, "N": int(sys.argv[1]), "__name__": "__main__"}
exec("@njit(cache=True)\ndef in_no_file(x):\n    return x + N\n", space)
functions = [twice, total, parallel_total, exact, fast, space["in_no_file"]]

if "wait" in sys.argv:
    print("ready", flush=True)
    sys.stdin.readline()
ones = np.ones(4)
answers = [total(1), total(1.5), parallel_total(ones), exact(2.0), fast(2.0), added(1.0, 2.0)]
answers += [shifted(ones).tolist(), called_by_c.ctypes(1.0), space["in_no_file"](1)]
compiled = sum(sum(it.stats.cache_misses.values()) for it in functions)
print("compiled", compiled, *answers, flush=True)
