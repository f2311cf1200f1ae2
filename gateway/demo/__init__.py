"""The demonstration: two nodes, a day of payments, a settled window, and an auditor who replays it all."""
