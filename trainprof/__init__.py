"""trainprof: runs your unmodified PyTorch training and says where every second goes, and why."""

__version__ = "0.1.0"
