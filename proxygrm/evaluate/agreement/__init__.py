"""Agreement of two proxies on the same rubrics."""
