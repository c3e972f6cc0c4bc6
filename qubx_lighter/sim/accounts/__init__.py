"""What accounts have and owe, in integers."""
