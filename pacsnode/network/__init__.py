"""Associations and DIMSE messages: the only room that imports pynetdicom."""
