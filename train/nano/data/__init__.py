"""The data of the embedded model: pictures that are made and degraded, and the rows about them."""
