"""One network stack: a namespace, its interfaces, views of its tables, and commands that run in it."""
