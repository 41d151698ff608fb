"""What a sweep will do, worked out before anything runs."""
