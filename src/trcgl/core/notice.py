"""The research-use notice of every output."""

RESEARCH_USE = "Research use only. Not a medical device."
