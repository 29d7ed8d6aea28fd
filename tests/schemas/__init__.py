"""The schemas themselves: examples, faulty examples, code lists, and two validators held against each other."""
