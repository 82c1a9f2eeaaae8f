"""Domain adaptation with few labels: LabOR (ICCV 2021), its rivals and what they cost."""
