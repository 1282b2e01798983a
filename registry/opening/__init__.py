"""Open a cache: its path and directory, its lock, its schema, a damaged database."""
