"""What runs in a worker process, and in the job processes that it forks."""
