"""What a party keeps: database and sealed files."""
