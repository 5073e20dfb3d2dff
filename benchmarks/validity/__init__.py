"""The validation study: simulated subjects with known truth, gated by our template and by three other ways."""
