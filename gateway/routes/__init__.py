"""What a node answers, one resource a file; each module gives a router, or handlers for the hot path."""
