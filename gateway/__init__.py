"""HTTP and people: parse, authenticate, call, and compose the nodes."""
