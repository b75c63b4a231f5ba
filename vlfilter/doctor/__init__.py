"""What `vlfilter doctor` looks at: the machine, storage, keys and servers that a run needs. Prefect is the cli's."""
