"""What becomes of orders: checked, matched, waiting, ended, booked."""
