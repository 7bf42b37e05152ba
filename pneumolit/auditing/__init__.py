"""What is wrong or suspicious in a data set, in printed results and in the cache."""
