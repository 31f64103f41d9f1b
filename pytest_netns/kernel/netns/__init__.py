"""Network namespaces: made, joined, published, found again."""
