"""What trains: ms-swift, verl, and the merge of adapters."""
