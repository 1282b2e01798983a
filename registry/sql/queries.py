"""The statements that change no artifact: look-ups, lists, sums, settings."""

from __future__ import annotations

from typing import NamedTuple

from registry.sql.sqlite import SQLITE

__all__ = [
    "AHEAD",
    "ALIENS",
    "ALL_PREPARING",
    "BY_PREFIX",
    "CLAIMANTS",
    "CLAIMS_OF",
    "CONFIGURE",
    "CORRECT_FAILURE_USAGE",
    "CORRECT_USAGE",
    "COUNTS",
    "DOOMED",
    "DOOMED_OF_KIND",
    "DROP_ALIENS",
    "ENTER_HOST",
    "FAILED_AS",
    "FAILED_PAGE",
    "FAILURES",
    "FAILURE_SUMS",
    "FAILURE_USAGE",
    "HOSTS",
    "IDENTITY",
    "INTEGRITY",
    "JOURNAL_MODE",
    "KINDS",
    "LEAVE_HOST",
    "LONGEST_PREPARATION",
    "MAINTAIN",
    "NOTE_USE",
    "NO_ROW",
    "OF_CODE_PAGE",
    "OLDEST_NEED",
    "PAGES",
    "PATHS_PAGE",
    "PREPARED_PAGE",
    "PRUNE_KIND",
    "READ",
    "READ_SEVERAL",
    "REMOVABLE",
    "REMOVABLE_OF_CODE",
    "REMOVABLE_OF_KIND",
    "REMOVE_SEVERAL",
    "REVISION",
    "SETTINGS",
    "SUMS",
    "USAGE",
    "WHOLE_PAGE",
    "WORKING_SET",
    "Row",
]


class Row(NamedTuple):
    """A row of `artifact`, in the order of its columns."""

    id: int
    code_hash: str
    prep_hash: str
    state: str
    path: str | None
    size: int | None
    checksum: str | None
    last_time_needed: int | None
    num_failures: int
    last_time_failed: int | None
    error: str | None
    error_kind: str | None
    retry_at: int | None
    host_id: str | None
    token: str | None
    claimed_at: int | None
    deadline: int | None
    created_at: int | None
    prepare_seconds: float | None
    label: str | None
    kind: str | None
    # Only in queries that join the host:
    pid: int | None = None
    hostname: str | None = None


NO_ROW = -1  # an id that no row has
READ = SQLITE["read"]
READ_SEVERAL = SQLITE["read several"]
PREPARED_PAGE = SQLITE["prepared page"]
ALL_PREPARING = SQLITE["all preparing"]
FAILED_PAGE = SQLITE["failed page"]
BY_PREFIX = SQLITE["by prefix"]
CLAIMS_OF = SQLITE["claims of"]
CLAIMANTS = SQLITE["claimants"]
PATHS_PAGE = SQLITE["paths page"]
WHOLE_PAGE = SQLITE["whole page"]
USAGE = SQLITE["usage"]
COUNTS = SQLITE["counts"]
SUMS = SQLITE["sums"]
CORRECT_USAGE = SQLITE["correct usage"]
FAILURE_SUMS = SQLITE["failure sums"]
CORRECT_FAILURE_USAGE = SQLITE["correct failure usage"]
FAILURE_USAGE = SQLITE["failure usage"]
DOOMED = SQLITE["doomed"]
SETTINGS = SQLITE["settings"]
CONFIGURE = SQLITE["configure"]
INTEGRITY = SQLITE["integrity"]
ENTER_HOST = SQLITE["enter host"]
HOSTS = SQLITE["hosts"]
LEAVE_HOST = SQLITE["leave host"]
MAINTAIN = SQLITE["maintain"]
IDENTITY = SQLITE["identity"]
LONGEST_PREPARATION = SQLITE["longest preparation"]
FAILURES = SQLITE["failures"]
NOTE_USE = SQLITE["note use"]
OLDEST_NEED = SQLITE["oldest need"]
JOURNAL_MODE = SQLITE["journal mode"]
PAGES = SQLITE["pages"]
REVISION = SQLITE["revision"]
WORKING_SET = SQLITE["working set"]
AHEAD = SQLITE["ahead"]
FAILED_AS = SQLITE["failed as"]
ALIENS = SQLITE["aliens"]
DROP_ALIENS = SQLITE["drop aliens"]
DOOMED_OF_KIND = SQLITE["doomed of kind"]
KINDS = SQLITE["kinds"]
OF_CODE_PAGE = SQLITE["of code page"]
PRUNE_KIND = SQLITE["prune kind"]
REMOVABLE = SQLITE["removable"]
REMOVABLE_OF_CODE = SQLITE["removable of code"]
REMOVABLE_OF_KIND = SQLITE["removable of kind"]
REMOVE_SEVERAL = SQLITE["remove several"]
