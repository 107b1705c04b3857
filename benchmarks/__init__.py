"""Speed on the device at hand, beside what one would use instead. Not in the wheel: see docs/performance.md."""
