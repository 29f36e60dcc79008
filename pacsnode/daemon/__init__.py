"""Processes: the listening sockets, the supervisor and its workers."""
