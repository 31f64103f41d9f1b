"""Netlink as we speak it ourselves: sockets, rtnetlink's hot path, dumps, and sock_diag."""
