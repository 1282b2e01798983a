"""Stories of several processes: they race, wait, stop, fork and die, and nothing is lost by it.

Every process is a real one. What happens in which order is said through pipes, never by sleeping.
"""
