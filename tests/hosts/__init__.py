"""Tests of the integrations against the real host packages; a package, so that they can share helpers."""
