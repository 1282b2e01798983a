"""The kinds of failure: for a preparation whether it is remembered, for an execution whose fault.

A kind is a short word, stored and shown as it is. A backend may use words of its own, in
`PrepareError(kind=...)` and in the execution errors; these here are the ones we say ourselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from registry.errors import ExecutionError, InternalError, InvalidCandidate, PossiblyInvalid

__all__ = ["DETERMINISTIC", "EXECUTION_ERROR", "OF_THE_HOST", "TRANSIENT", "Kind"]


class Kind(StrEnum):
    """What went wrong, in one word."""

    # Said by the backend.
    PREVALIDATION = "prevalidation"
    PREPARATION = "preparation"
    COULD_NOT_DECOMPRESS_CODE_BLOB = "could_not_decompress_code_blob"
    CODE_TOO_LARGE = "code_too_large"
    REJECTED = "rejected"
    COULD_NOT_DECOMPRESS_REQUEST = "could_not_decompress_request"
    CORRUPTED_ARTIFACT = "corrupted_artifact"
    # Happened in the job.
    JOB_ERROR = "job_error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    JOB_DIED = "job_died"
    # Happened around the job.
    RUNTIME_CONSTRUCTION = "runtime_construction"
    IO_ERR = "io_err"
    CREATE_TMP_FILE = "create_tmp_file"
    RENAME_TMP_FILE = "rename_tmp_file"
    CLEAR_WORKER_DIR = "clear_worker_dir"
    WORKER_DIED = "worker_died"
    WORKER_NOT_STARTED = "worker_not_started"
    KERNEL = "kernel"


# A failed preparation of these kinds is never tried again by itself: the same code, prepared
# again, would fail again. All others are the world's doing and may pass.
DETERMINISTIC = frozenset(
    {
        Kind.PREVALIDATION,
        Kind.PREPARATION,
        Kind.COULD_NOT_DECOMPRESS_CODE_BLOB,
        Kind.JOB_ERROR,
        Kind.OUT_OF_MEMORY,
    }
)

# And these say nothing about the code, however often they came: a preparation that was given up
# after all its retries still does not mean that the code is bad.
TRANSIENT = frozenset(
    {
        Kind.TIMED_OUT,
        Kind.JOB_DIED,
        Kind.RUNTIME_CONSTRUCTION,
        Kind.IO_ERR,
        Kind.CREATE_TMP_FILE,
        Kind.RENAME_TMP_FILE,
        Kind.CLEAR_WORKER_DIR,
        Kind.KERNEL,
    }
)

# These are about the host: its limits, its worker, its folder. Another host may do better, and so
# none of them is remembered.
OF_THE_HOST = frozenset(
    {
        Kind.TIMED_OUT,
        Kind.OUT_OF_MEMORY,
        Kind.RUNTIME_CONSTRUCTION,
        Kind.CREATE_TMP_FILE,
        Kind.RENAME_TMP_FILE,
        Kind.CLEAR_WORKER_DIR,
        Kind.WORKER_DIED,
        Kind.WORKER_NOT_STARTED,
        Kind.KERNEL,
    }
)

# Whose fault a failed execution is. A time-out counts as the candidate's: the limit is generous,
# and there would be no time left for another attempt. A death is ambiguous: the code may have
# killed its process, or the kernel may have run out of memory for reasons of its own.
EXECUTION_ERROR: Mapping[str, type[ExecutionError]] = {
    Kind.REJECTED: InvalidCandidate,
    Kind.COULD_NOT_DECOMPRESS_REQUEST: InvalidCandidate,
    Kind.TIMED_OUT: InvalidCandidate,
    Kind.JOB_ERROR: PossiblyInvalid,
    Kind.OUT_OF_MEMORY: PossiblyInvalid,
    Kind.JOB_DIED: PossiblyInvalid,
    Kind.WORKER_DIED: PossiblyInvalid,
    Kind.CORRUPTED_ARTIFACT: PossiblyInvalid,
    Kind.RUNTIME_CONSTRUCTION: InternalError,
    Kind.IO_ERR: InternalError,
    Kind.CREATE_TMP_FILE: InternalError,
    Kind.CLEAR_WORKER_DIR: InternalError,
    Kind.KERNEL: InternalError,
}
