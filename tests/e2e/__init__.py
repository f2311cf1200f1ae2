"""Whole processes and servers, over loopback."""
