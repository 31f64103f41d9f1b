"""The model of a network: nodes, cables, addresses, routes, and what of them has been taken away."""
