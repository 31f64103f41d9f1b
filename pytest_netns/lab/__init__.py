"""The network as its author describes it: hosts, bridges, the links between them, and their addresses."""
