"""What the benchmarks run in processes of their own, so that the kernel's accounts of them are exact."""
