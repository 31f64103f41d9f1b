"""The report of a failed test: text, drawings and artifacts."""
