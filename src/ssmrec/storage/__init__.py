"""What lies on disk: files that are whole or not there, and are checked as they are read."""
