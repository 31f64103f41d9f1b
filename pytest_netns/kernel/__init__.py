"""Access to the Linux kernel and this machine. Nothing here knows about labs or pytest."""
