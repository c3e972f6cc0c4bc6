"""Candles, trades and funding of the past: pages, tables, files."""
