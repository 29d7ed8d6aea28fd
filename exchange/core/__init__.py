"""The pure core: values in, values out; nothing here reads, waits, draws or logs."""
