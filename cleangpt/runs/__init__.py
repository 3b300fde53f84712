"""What lies on the disk: run directories, snapshots, weights, records."""
