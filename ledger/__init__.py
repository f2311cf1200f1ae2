"""Truth about balances: signed messages in, journal blocks out, and every balance a fold over the blocks."""
