"""What benchmarks time: graphs of ours and of peers, and sessions set up alike for both."""
