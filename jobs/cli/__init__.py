"""The `proxygrm` command: one file per command or group of commands, each thin; `main.py` puts them together."""
