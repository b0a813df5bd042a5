"""runomics: the AWS HealthOmics workflow API on machines you own."""

__version__ = "0.1.0"
