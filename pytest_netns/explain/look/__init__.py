"""What a node's kernel tells when it is asked: routes, rules, links, sockets, filters, counters."""
