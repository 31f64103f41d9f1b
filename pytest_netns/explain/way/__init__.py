"""The path of a packet according to the nodes' own tables, without sending it."""
