"""Where the blocks and the lasting state of logical units live; decides no protocol question."""
