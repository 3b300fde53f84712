"""What learns: architectures, their settings, and how they are built."""
