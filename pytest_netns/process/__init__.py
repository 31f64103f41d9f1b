"""Processes that live in a namespace and die with the session."""
