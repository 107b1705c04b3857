"""Benchmarks: speed of mist-bench and of its alternatives on this device. Not in the wheel; see docs/performance.md."""
