"""Faults: what is broken on purpose during a test, and mended again."""
