"""How fast is it? ``python -m benchmarks`` from a checkout prints a table; nothing here passes or fails."""
