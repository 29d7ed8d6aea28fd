"""The shell: takes an event, runs the core, commits, then sends."""
