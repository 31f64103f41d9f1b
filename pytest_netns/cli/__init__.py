"""The subcommands of ``pytest-netns``."""
