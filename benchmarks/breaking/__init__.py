"""What breaks clusters: real processes, kills, freezes, cuts, full disks, and counts.

For `tests/reliability` and `benchmarks.reliability`; knows nothing of what is expected.
"""
