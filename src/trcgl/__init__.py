"""Train, judge and serve classifiers for long-tailed multi-label chest radiographs.

Implements TRCGL-Net (arXiv 2607.00975). Research use only: not a medical device.
"""

__version__ = "0.1.0"
