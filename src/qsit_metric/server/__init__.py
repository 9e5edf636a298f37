"""A small server of our own: one queue for all clients, the doors over HTTP, lines on stdin, and a page to look at."""
