"""The names of the tables and columns, for statements; `registry.schema` defines them."""

from __future__ import annotations

from sqlalchemy import column, table

__all__ = [
    "artifact",
    "cache",
    "counter",
    "failure_usage",
    "history",
    "host",
    "host_history",
    "maintenance",
    "setting",
    "usage",
]

artifact = table(
    "artifact",
    column("id"),
    column("code_hash"),
    column("prep_hash"),
    column("state"),
    column("path"),
    column("size"),
    column("checksum"),
    column("last_time_needed"),
    column("num_failures"),
    column("last_time_failed"),
    column("error"),
    column("error_kind"),
    column("retry_at"),
    column("host_id"),
    column("token"),
    column("claimed_at"),
    column("deadline"),
    column("created_at"),
    column("prepare_seconds"),
    column("label"),
    column("kind"),
)
usage = table("usage", column("prepared_count"), column("prepared_bytes"))
failure_usage = table("failure_usage", column("failed_count"), column("failed_bytes"))
setting = table("setting", column("name"), column("value"))
host = table(
    "host",
    column("id"),
    column("pid"),
    column("hostname"),
    column("command"),
    column("opened_at"),
    column("version"),
)
maintenance = table("maintenance", column("last_done"))
cache = table("cache", column("uuid"), column("oldest_version"))
history = table(
    "history",
    column("id"),
    column("at"),
    column("event"),
    column("reason"),
    column("code_hash"),
    column("prep_hash"),
    column("label"),
    column("host_id"),
    column("size"),
    column("prepare_seconds"),
    column("last_time_needed"),
    column("evicted_for"),
    column("error"),
)
counter = table("counter", column("name"), column("value"))
host_history = table(
    "host_history",
    column("number"),
    column("id"),
    column("pid"),
    column("hostname"),
    column("command"),
    column("opened_at"),
    column("version"),
)
