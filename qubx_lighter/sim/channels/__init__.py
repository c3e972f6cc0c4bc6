"""Who listens to what, and what they are sent when."""
