"""What touches the machine: files, database, network, clock, keys."""
