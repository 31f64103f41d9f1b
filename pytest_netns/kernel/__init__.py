"""What Linux gives us. Nothing here knows of labs or of pytest."""
