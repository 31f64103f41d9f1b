"""Faults: failures injected during a test, and undone again."""
