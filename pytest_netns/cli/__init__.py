"""What ``pytest-netns`` does on the command line."""
