"""What touches Dask: lowering, the scheduler plugin, executor, supervisor."""
