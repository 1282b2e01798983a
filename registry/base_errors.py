"""The base of all errors, and what `registry.artifact` raises.

`registry.errors`, which has all errors, imports artifacts, and so is above `registry.artifact`.
"""

__all__ = ["InvalidId", "InvalidParams", "RegistryError"]


class RegistryError(Exception):
    """The base of every error that `registry` raises on purpose."""


class InvalidId(RegistryError, ValueError):
    """An artifact id is not two hashes of 64 lower-case hex digits, or there is no code to hash."""


class InvalidParams(RegistryError, ValueError):
    """Preparation parameters hold something that has no canonical form."""
