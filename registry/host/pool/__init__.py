"""The pools: workers and jobs as the host's own process sees them."""
