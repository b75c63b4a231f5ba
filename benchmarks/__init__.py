"""What is measured against what: `python -m benchmarks` runs all, `python -m benchmarks.NAME` one; see README.md."""
