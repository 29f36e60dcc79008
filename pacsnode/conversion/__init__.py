"""Stored data sets in another Transfer Syntax, for receivers that do not take the stored one."""
