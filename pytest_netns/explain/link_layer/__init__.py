"""The way of a frame over links and bridges, and how the search for a neighbour fares there."""
