"""The commands of operators and officers."""
