"""What people outside the pipeline read."""
