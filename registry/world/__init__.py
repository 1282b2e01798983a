"""The effects made real: the database, the files, the hosts, the clocks, of this machine."""
