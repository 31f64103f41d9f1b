"""The kernel's own trace of packets through the rules of nftables."""
