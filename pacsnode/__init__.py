"""A DICOM archive node: receives, keeps, catalogues, answers and re-sends SOP Instances."""

__version__ = "0.1.0"
