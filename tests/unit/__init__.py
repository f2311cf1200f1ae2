"""Unit tests: one fact each, milliseconds."""
