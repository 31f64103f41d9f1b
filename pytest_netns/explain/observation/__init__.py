"""A probe that failed, sent again while everything is watched: what all checks look at."""
