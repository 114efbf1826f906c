"""What one worker at a time does for all of them."""
