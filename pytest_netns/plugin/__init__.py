"""The pytest plugin: hooks, fixtures' settings, markers, isolation, leaks, reports.

No assertions for pytest to rewrite at each start: PYTEST_DONT_REWRITE.
"""
