"""What each DIMSE service does: plain functions, no network, no settings."""
