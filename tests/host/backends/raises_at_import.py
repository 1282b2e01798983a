"""A backend that is not there today."""

raise RuntimeError("not here")
