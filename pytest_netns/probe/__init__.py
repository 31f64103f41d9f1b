"""Questions put on the wire: frames built with scapy, sent and matched through sockets inside the namespace.

scapy's own sockets, routes, interfaces and ARP cache are global to the process and know one namespace only, the one
in which scapy was imported. None of them is used here.
"""

from pytest_netns.kernel.scapy_import import prepare_scapy

prepare_scapy()
