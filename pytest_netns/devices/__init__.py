"""Network devices beyond the veth: VLANs, tunnels, bonds, VRFs, WireGuard, and TUN/TAP owned by the test."""
