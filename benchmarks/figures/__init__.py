"""The figures of the paper, as PNG and, where they hold text, as HTML."""
