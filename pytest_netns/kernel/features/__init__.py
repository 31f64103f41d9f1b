"""What this kernel has: device kinds, queueing disciplines, socket families, nftables expressions."""
