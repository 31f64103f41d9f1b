"""Netlink: the socket, and the messages of each subsystem (rtnetlink, tc, ctnetlink, sock_diag, ...)."""
