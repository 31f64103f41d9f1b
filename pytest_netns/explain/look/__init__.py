"""Reading a node's kernel state: routes, rules, links, sockets, filters, counters."""
