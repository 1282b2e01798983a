"""Which job runs next: pure queues that are told events, and answer instructions."""
