"""Processes that die, and what the next one finds."""
