"""Who runs where, and what is already done."""
