"""The pytest plugin: hooks, fixtures' settings, markers, isolation, leaks, reports."""
