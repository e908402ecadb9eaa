"""Files in and out: workflow traces, node files, plan files."""
