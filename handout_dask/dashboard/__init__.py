"""All that draws: pages on Dask's dashboard, and pictures and reports in files."""
