"""Cross-border clearing and settlement over two ledgers; knows the ledger, never HTTP."""
