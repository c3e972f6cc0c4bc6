"""What a market is and remembers: its book, its prices, its past."""
