"""What passes on the interfaces of a namespace, a link or a lab: sockets, a pump that drains them, and files."""

from pytest_netns.kernel.scapy_import import prepare_scapy

prepare_scapy()
