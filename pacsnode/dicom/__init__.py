"""What the DICOM Standard says: pure rules, no input or output."""
