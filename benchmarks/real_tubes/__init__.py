"""What the placement rules do on recorded tubes: `python -m benchmarks.real_tubes`."""
