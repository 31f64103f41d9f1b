"""Kernel features: device kinds, queueing disciplines, socket families, nftables expressions."""
