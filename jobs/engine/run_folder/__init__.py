"""The run folder: the request, what was sent and made, and by which attempt. Every write is atomic."""
