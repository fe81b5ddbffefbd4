"""The run folder: what was asked, sent, made and by whom. Every write is atomic."""
