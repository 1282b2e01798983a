"""A module with one function of the three that a backend has."""


def prepare(code: bytes, params: object) -> bytes:
    return code
