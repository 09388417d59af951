"""Data: series cut by time into lanes, sentences sorted into buckets."""
