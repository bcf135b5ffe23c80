"""What every output says of itself."""

RESEARCH_USE = "Research use only. Not a medical device."
