"""The way of a packet by the nodes' own tables, without sending it."""
