"""Network namespaces: creating, joining, publishing and finding them."""
