"""Network devices beyond the veth: VLANs, tunnels, bonds, VRFs, WireGuard, and TUN/TAP owned by the test."""

from pytest_netns.kernel.scapy_import import prepare_scapy

prepare_scapy()
