"""Messages of the Converse API: built, checked and read."""
