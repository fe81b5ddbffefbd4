"""Imported by verl itself, in every process that imports verl: see `private_sockets`."""

from proxygrm.rl.guards.private_sockets import guard

guard()
