"""A run as one HTML page that needs no network, and its result table for the terminal. Light imports only."""
