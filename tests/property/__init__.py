"""Property tests: the real thing against a model written from the specification."""
